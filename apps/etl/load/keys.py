"""Surrogate keys of one dimension in memory, since a load looks up millions of them."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa


class Keys:
    """Surrogate keys by natural key. A key is assigned once and never reused; new ones follow in the order of their natural keys.

    Two int64 arrays, 16 bytes per member: 1.6 MB for 100 000 customers.
    """

    def __init__(self, members: Iterable[tuple[int, int]]):
        """`members`: pairs of natural and surrogate key, in the order of the natural keys."""
        pairs = np.fromiter(chain.from_iterable(members), dtype=np.int64).reshape(-1, 2)
        self.naturals, self.keys = pairs[:, 0], pairs[:, 1]
        self.next = int(self.keys.max(initial=0)) + 1

    def add(self, naturals: Any) -> Any:
        """Assign keys to the natural keys that have none, and return these natural keys, ascending."""
        new = np.unique(naturals[~self.has(naturals)])
        if len(new):
            keys = np.arange(self.next, self.next + len(new), dtype=np.int64)
            merged = np.concatenate([self.naturals, new])
            order = np.argsort(merged, kind="stable")
            self.naturals, self.keys = merged[order], np.concatenate([self.keys, keys])[order]
            self.next += len(new)
        return new

    def has(self, naturals: Any) -> Any:
        if not len(self.naturals):
            return np.zeros(len(naturals), dtype=bool)
        at = np.searchsorted(self.naturals, naturals).clip(max=len(self.naturals) - 1)
        return self.naturals[at] == naturals

    def of(self, naturals: Any) -> Any:
        """Return the surrogate keys of natural keys that all have one."""
        return self.keys[np.searchsorted(self.naturals, naturals)]

    def lookup(self, column: pa.ChunkedArray, empty: int) -> tuple[pa.Array, Any]:
        """Return the keys of a column, `empty` where it is empty, and the natural keys that had none so far: inferred members."""
        present = column.is_valid().to_numpy()
        naturals = column.fill_null(0).to_numpy()
        inferred = self.add(naturals[present])
        found = np.full(len(naturals), empty, dtype=np.int64)
        found[present] = self.of(naturals[present])
        return pa.array(found), inferred
