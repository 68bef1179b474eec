"""Histories: what programs do to the shop, in any order, while runs load it; after each run the warehouse must be what the shop holds.

`make test` replays a few, `make soak` ten thousand. A history is a list of `steps`, drawn by hypothesis; in a `replay` of it `writers`
change the `shop`, the ETL runs, and the warehouse is compared with the oracle.
"""
