"""Fingerprints of rows, summed by a key: an order's id, or its segment. Sums add up, so groups of rows can be compared first."""

from typing import Any, NamedTuple

import numpy as np

from apps.etl.slices import NO_ID, SEGMENT, Bounds

NOTHING = np.array([], dtype=np.int64)


class Sums(NamedTuple):
    """Two int64 arrays: keys, ascending and each once, and their sums. A key that is missing has the sum 0."""

    keys: Any
    values: Any

    def minus(self, other: "Sums") -> "Sums":
        return add_up([self, Sums(other.keys, -other.values)])

    def differing(self, other: "Sums") -> Any:
        """Return the keys whose sums differ."""
        difference = self.minus(other)
        return difference.keys[difference.values != 0]

    def by_segment(self) -> "Sums":
        return sum_by(segments_of(self.keys), self.values)


def sum_by(keys: Any, values: Any) -> Sums:
    """Sum `values` by `keys`, which may come in any order. Exact: nothing passes through a float."""
    keys, values = np.asarray(keys, dtype=np.int64), np.asarray(values, dtype=np.int64)
    if not len(keys):
        return Sums(keys, values)
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return Sums(keys[starts], np.add.reduceat(values, starts))


def add_up(parts: list[Sums]) -> Sums:
    keys, values = ([NOTHING, *columns] for columns in zip(*parts, strict=True)) if parts else ([NOTHING], [NOTHING])
    return sum_by(np.concatenate(keys), np.concatenate(values))


def to_columns(rows: Any, width: int) -> Any:
    """Turn rows of `width` whole numbers, as a cursor returns them, into int64 columns."""
    return np.array(rows, dtype=np.int64).reshape(-1, width).T


def align(values: Any, keys: Any, wanted: Any) -> Any:
    """Return the values at the `wanted` keys, ascending, which include `keys`; 0 at the others."""
    found = np.zeros(len(wanted), dtype=np.int64)
    found[np.searchsorted(wanted, keys)] = values
    return found


def segments_of(ids: Any) -> Any:
    """Return each id's segment, divided as SQL does: towards zero, where numpy rounds down."""
    ids = np.asarray(ids, dtype=np.int64)
    return ids // SEGMENT + ((ids < 0) & (ids % SEGMENT != 0))


def segment_bounds(segment: int) -> Bounds:
    """Return the ids of a segment: from, included; to, excluded. That of NO_ID is the beginning of all ids."""
    if segment == segments_of(NO_ID):
        return None, NO_ID + 1
    if segment == 0:
        return 1 - SEGMENT, SEGMENT
    return (segment * SEGMENT, (segment + 1) * SEGMENT) if segment > 0 else ((segment - 1) * SEGMENT + 1, segment * SEGMENT + 1)
