"""Fingerprints of the dimensions, as each load stores them: a slice with the fingerprint of the last load is not read again.

One fingerprint per slice, since each slice is extracted by its own task: with one per table, each of 500 slices of ten million
customers would have to look at all ten million.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from apps.etl.slices import Bounds, overlap


class SliceFingerprint(NamedTuple):
    """A slice of a dimension: `source`, of the source rows as they were read; `star`, of its rows as they were written."""

    low: int | None
    high: int | None
    source: str
    star: int | None = None


Fingerprints = Mapping[str, Iterable[tuple[Any, ...]]]  # by dimension, as JSON holds them


def find_fingerprint(stored: Fingerprints, table: str, bounds: Bounds) -> SliceFingerprint | None:
    """Return the stored fingerprint of exactly this slice; None where the dimension was last cut otherwise."""
    slices = (SliceFingerprint(*each) for each in stored.get(table, ()))
    return next((each for each in slices if (each.low, each.high) == bounds), None)


def merge_fingerprints(loaded: Mapping[str, Iterable[SliceFingerprint]], stored: Fingerprints) -> dict[str, list[tuple[Any, ...]]]:
    """Return the fingerprints of this load and the stored ones that it left valid: those of slices that overlap none of its own."""
    merged = {table: list(slices) for table, slices in stored.items()}
    for table, slices in loaded.items():
        valid = [old for old in merged.get(table, []) if not any(overlap(old[:2], new[:2]) for new in slices)]
        merged[table] = valid + [new for new in slices if new.source]
    return {table: slices for table, slices in merged.items() if slices}
