"""Which fingerprints a load keeps."""

from apps.etl.fingerprints import kept_with, known

WHOLE = {"dim_region": [(None, None, "a")]}
SLICES = {"dim_customer": [(None, 8, "a"), (8, 15, "b"), (15, None, "c")]}


def test_one_is_known_of_a_slice_like_the_one_that_was_read() -> None:
    assert known(SLICES, "dim_customer", (8, 15)) == "b" and known(WHOLE, "dim_region", (None, None)) == "a"
    assert known(SLICES, "dim_customer", (8, 16)) == known(SLICES, "dim_customer", (None, None)) == known({}, "dim_customer", (8, 15)) == ""


def test_what_was_left_alone_is_kept() -> None:
    assert kept_with({"dim_customer": [(8, 15, "x")]}, SLICES | WHOLE) == WHOLE | {
        "dim_customer": [(None, 8, "a"), (15, None, "c"), (8, 15, "x")]
    }


def test_what_is_said_of_rows_that_were_read_since_is_forgotten() -> None:
    """A slice may come back, and with it a row as it was: only a backup restores it, but then the warehouse has another."""
    assert kept_with({"dim_customer": [(7, 9, "x")]}, SLICES) == {"dim_customer": [(15, None, "c"), (7, 9, "x")]}
    assert kept_with({"dim_customer": [(None, None, "x")]}, SLICES) == {"dim_customer": [(None, None, "x")]}
    assert kept_with({"dim_customer": [(None, 7, "")]}, SLICES) == {"dim_customer": [(8, 15, "b"), (15, None, "c")]}
