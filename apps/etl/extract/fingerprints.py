"""Fingerprints of the dimensions' sources, as each load stores them: a slice with the fingerprint of the last load is not read again.

One fingerprint per slice, since each slice is extracted by its own task: with one per table, each of 500 slices of ten million
customers would have to look at all ten million.
"""

from collections.abc import Iterable, Mapping

from apps.etl.slices import Bounds, overlap

SliceFingerprint = tuple[int | None, int | None, str]  # from, to, fingerprint
Fingerprints = Mapping[str, Iterable[SliceFingerprint]]  # by dimension


def find_fingerprint(stored: Fingerprints, table: str, bounds: Bounds) -> str:
    """Return the stored fingerprint of exactly this slice; empty where the dimension was last cut otherwise."""
    return next((fingerprint for low, high, fingerprint in stored.get(table, ()) if (low, high) == bounds), "")


def merge_fingerprints(loaded: Fingerprints, stored: Fingerprints) -> dict[str, list[SliceFingerprint]]:
    """Return the fingerprints of this load and the stored ones that it left valid: those of slices that overlap none of its own."""
    merged = {table: list(slices) for table, slices in stored.items()}
    for table, slices in loaded.items():
        valid = [old for old in merged.get(table, []) if not any(overlap(old[:2], new[:2]) for new in slices)]
        merged[table] = valid + [new for new in slices if new[2]]
    return {table: slices for table, slices in merged.items() if slices}
