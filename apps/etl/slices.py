"""Slices: half-open ranges of ids by which large tables are read, transformed and loaded. No database."""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

Bounds = tuple[int | None, int | None]  # from, included; to, excluded; None: open
Slices = tuple[Bounds, ...]

EVERYTHING: Bounds = (None, None)
# The id by which rows are sliced that name none: NULL, or on SQLite what is no whole number. They belong to the first slice.
NO_ID = -(2**62)
# Orders whose fingerprints are compared in one sum: id / SEGMENT, divided towards zero.
SEGMENT = 1_024


def whole_number(text: str | None) -> int:
    """Return the number that the text spells, NO_ID where it spells none that a bigint holds."""
    return int(text) if text and re.fullmatch("-?[0-9]{1,18}", text) else NO_ID


def cut(ids: Iterable[int]) -> Slices:
    """Return the slices that begin at these ascending ids. The first and the last slice are open, so no id falls outside."""
    return tuple(pairwise([None, *ids, None]))


def within(column: str, bounds: Bounds) -> list[str]:
    """Return the SQL conditions, to be joined with AND, that keep `column` within `bounds`."""
    low, high = bounds
    return [f"{column} {sign} {edge}" for sign, edge in ((">=", low), ("<", high)) if edge is not None]


def inside(ids: Any, bounds: Bounds) -> Any:
    """Return which of an array of ids lie within `bounds`, as a mask."""
    low, high = bounds
    return (ids >= (NO_ID if low is None else low)) & ((ids < high) if high is not None else True)


def overlap(one: Bounds, other: Bounds) -> bool:
    """Return True if some id may lie within both."""
    return starts_before_end(one, other) and starts_before_end(other, one)


def starts_before_end(one: Bounds, other: Bounds) -> bool:
    low, high = one[0], other[1]
    return low is None or high is None or low < high
