"""Slices: half-open ranges of ids by which large tables are read, transformed and loaded. No database."""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

Bounds = tuple[int | None, int | None]  # from, included; to, excluded; None: open
Slices = tuple[Bounds, ...]

EVERYTHING: Bounds = (None, None)
SMALLEST_ID, LARGEST_ID = -(2**63), 2**63 - 1
INTEGER = re.compile("-?0*[0-9]{1,19}")
# The id by which rows are sliced that name none: NULL, or on SQLite what is no whole number. They belong to the first slice.
NO_ID = -(2**62)
# Orders whose fingerprints are compared in one sum: id / SEGMENT, divided towards zero.
SEGMENT = 1_024


def parse_integer(text: str) -> int | None:
    """Return the whole number that the text spells, as a cast to bigint takes it; None where it spells none that a bigint holds.

    Python's own `int` also takes spaces, underscores and the digits of every script.
    """
    number = int(text) if INTEGER.fullmatch(text) else None
    return number if number is not None and SMALLEST_ID <= number <= LARGEST_ID else None


def whole_number(text: str | None) -> int:
    """Return the id that the text spells, NO_ID where it spells none."""
    number = parse_integer(text) if text else None
    return NO_ID if number is None else number


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
    return (ids >= (SMALLEST_ID if low is None else low)) & ((ids < high) if high is not None else True)


def overlap(one: Bounds, other: Bounds) -> bool:
    """Return True if some id may lie within both."""
    return starts_before_end(one, other) and starts_before_end(other, one)


def starts_before_end(one: Bounds, other: Bounds) -> bool:
    low, high = one[0], other[1]
    return low is None or high is None or low < high
