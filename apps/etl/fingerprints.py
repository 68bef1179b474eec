"""What each load keeps of the dimensions' sources: a slice that is as it was last read need not be read again.

Slice by slice, since each is asked for by itself: of ten million customers in 500 slices each would else look at all ten million.
"""

from collections.abc import Iterable, Mapping

from apps.etl.extract import Bounds

Slice = tuple[int | None, int | None, str]  # from, up to, fingerprint
Kept = Mapping[str, Iterable[Slice]]  # by dimension


def known(kept: Kept, table: str, bounds: Bounds) -> str:
    """Empty where the dimension was not last read in slices like this one."""
    return next((fingerprint for low, high, fingerprint in kept.get(table, ()) if (low, high) == bounds), "")


def kept_with(loaded: Kept, before: Kept) -> dict[str, list[Slice]]:
    """Those of this load, and of earlier ones what it left alone: what they say of rows that it read is out of date."""
    found = {table: list(slices) for table, slices in before.items()}
    for table, slices in loaded.items():
        alone = [old for old in found.get(table, []) if not any(overlap(old, new) for new in slices)]
        found[table] = alone + [new for new in slices if new[2]]
    return {table: slices for table, slices in found.items() if slices}


def overlap(one: Slice, other: Slice) -> bool:
    return begins_before_end(one, other) and begins_before_end(other, one)


def begins_before_end(one: Slice, other: Slice) -> bool:
    low, high = one[0], other[1]
    return low is None or high is None or low < high
