"""Benchmarks of a load against a lower bound (the floor) and common tools: `make bench`. Every ratio is of one run on one machine."""
