"""Prove the star: what the sources hold and what the star says, computed by SQL of each database's own, compared order by order.

Neither side uses the code that loads: no slice, batch, transform or merge. What they share is the list of numbers in numbers.py.
"""
