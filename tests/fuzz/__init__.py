"""Fuzzing: hypothesis gives each parser of outside text what nobody would type. It returns a value that keeps its contract, or the
documented refusal; never another exception, and never a secret.

`make test` tries a few inputs of each kind, `make fuzz` ten thousand.
"""
