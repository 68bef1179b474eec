"""Fingerprints that a load keeps."""

from apps.etl.extract.fingerprints import find_fingerprint, merge_fingerprints

WHOLE = {"dim_region": [(None, None, "a")]}
SLICES = {"dim_customer": [(None, 8, "a"), (8, 15, "b"), (15, None, "c")]}


def test_fingerprint_is_found_only_for_its_exact_slice() -> None:
    assert find_fingerprint(SLICES, "dim_customer", (8, 15)) == "b" and find_fingerprint(WHOLE, "dim_region", (None, None)) == "a"
    assert (
        find_fingerprint(SLICES, "dim_customer", (8, 16))
        == find_fingerprint(SLICES, "dim_customer", (None, None))
        == find_fingerprint({}, "dim_customer", (8, 15))
        == ""
    )


def test_fingerprints_of_other_slices_remain() -> None:
    assert merge_fingerprints({"dim_customer": [(8, 15, "x")]}, SLICES | WHOLE) == WHOLE | {
        "dim_customer": [(None, 8, "a"), (15, None, "c"), (8, 15, "x")]
    }


def test_fingerprints_of_overlapping_slices_are_dropped() -> None:
    """The same slice may be planned again later, and must not match an outdated fingerprint."""
    assert merge_fingerprints({"dim_customer": [(7, 9, "x")]}, SLICES) == {"dim_customer": [(15, None, "c"), (7, 9, "x")]}
    assert merge_fingerprints({"dim_customer": [(None, None, "x")]}, SLICES) == {"dim_customer": [(None, None, "x")]}
    assert merge_fingerprints({"dim_customer": [(None, 7, "")]}, SLICES) == {"dim_customer": [(8, 15, "b"), (15, None, "c")]}
