"""Histories: what programs do to the shop, in any order, while runs load it; after each run the warehouse must be what the shop holds.

`make test` replays a few, `make soak` ten thousand. A history is a list of steps (`steps`), drawn by hypothesis, in which `writers` change the
shop, and `replay` runs the ETL and compares the warehouse with the oracle.
"""
