"""Fingerprints that a load keeps."""

from apps.etl.extract.fingerprints import SliceFingerprint, find_fingerprint, merge_fingerprints

WHOLE = {"dim_region": [(None, None, "a", 1)]}
SLICES = {"dim_customer": [(None, 8, "a", 2), (8, 15, "b", 3), (15, None, "c")]}


def merge(low: int | None, high: int | None, source: str) -> object:
    return merge_fingerprints({"dim_customer": [SliceFingerprint(low, high, source, 4)]}, SLICES)


def test_fingerprint_is_found_only_for_its_exact_slice() -> None:
    assert find_fingerprint(SLICES, "dim_customer", (8, 15)) == (8, 15, "b", 3)
    assert find_fingerprint(WHOLE, "dim_region", (None, None)) == (None, None, "a", 1)
    assert find_fingerprint(SLICES, "dim_customer", (8, 16)) is find_fingerprint(SLICES, "dim_customer", (None, None)) is None
    assert find_fingerprint({}, "dim_customer", (8, 15)) is None


def test_fingerprint_of_an_earlier_release_says_nothing_of_the_rows_written() -> None:
    assert find_fingerprint(SLICES, "dim_customer", (15, None)) == (15, None, "c", None)


def test_fingerprints_of_other_slices_remain() -> None:
    loaded = {"dim_customer": [SliceFingerprint(8, 15, "x", 4)]}
    assert merge_fingerprints(loaded, SLICES | WHOLE) == WHOLE | {"dim_customer": [(None, 8, "a", 2), (15, None, "c"), (8, 15, "x", 4)]}


def test_fingerprints_of_overlapping_slices_are_dropped() -> None:
    """The same slice may be planned again later, and must not match an outdated fingerprint."""
    assert merge(7, 9, "x") == {"dim_customer": [(15, None, "c"), (7, 9, "x", 4)]}
    assert merge(None, None, "x") == {"dim_customer": [(None, None, "x", 4)]}
    assert merge(None, 7, "") == {"dim_customer": [(8, 15, "b", 3), (15, None, "c")]}
