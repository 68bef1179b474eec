"""Raw values of sources: of any bytes, each becomes the value that a second reader finds, or is rejected; alone or beside others."""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.etl.declarations import Column, Kind
from apps.etl.money import MAX_KOPIYKAS
from apps.etl.transform.parse import parse
from tests.fuzz.inputs import fuzzed

LENGTH = 5  # of a text
REJECTED = object()
Reader = Callable[[bytes], Any]


# --- The second reader: by hand, a character at a time, with fractions instead of decimals ---


def read_integer(raw: bytes) -> Any:
    if not re.fullmatch(rb"-?[0-9]+", raw):
        return REJECTED
    value = 0
    for digit in raw.lstrip(b"-"):
        value = value * 10 + digit - ord("0")
    value = -value if raw.startswith(b"-") else value
    return value if -(2**63) <= value < 2**63 else REJECTED


def read_amount(raw: bytes) -> Any:
    found = re.fullmatch(rb"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?0*[0-9]{1,3}))?", raw)
    if not found or not (found[2] or found[3]):
        return REJECTED
    digits = (found[2] + (found[3] or b"")) or b"0"
    places = len(found[3] or b"") - int(found[4] or b"0") - 2
    value = Fraction(int(digits[:5000])) * (Fraction(10) ** -places)
    value = -value if found[1] == b"-" else value
    return int(value) if value.denominator == 1 and abs(value) <= MAX_KOPIYKAS else REJECTED


def read_instant(raw: bytes) -> Any:
    found = re.fullmatch(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,6})?", raw)
    if not found:
        return REJECTED
    day = count_days(*(int(part) for part in found.groups()[:3]))
    hour, minute, second = (int(part) for part in found.groups()[3:6])
    if day is None or hour > 23 or minute > 59 or second > 59:
        return REJECTED
    micros = int(Fraction((found[7] or b".0").decode().replace(".", "0.")) * 1_000_000)
    return datetime(1, 1, 1) + timedelta(days=day, hours=hour, minutes=minute, seconds=second, microseconds=micros)


def read_date(raw: bytes) -> Any:
    found = re.fullmatch(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)?", raw)
    day = count_days(*(int(part) for part in found.groups())) if found else None
    return REJECTED if day is None else date(1, 1, 1) + timedelta(days=day)


def count_days(year: int, month: int, day: int) -> int | None:
    """Return the days since 1 January of the year 1; None for a day that the calendar does not have."""
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = [31, 29 if is_leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= lengths[month - 1]):
        return None
    earlier = year - 1
    return earlier * 365 + earlier // 4 - earlier // 100 + earlier // 400 + sum(lengths[: month - 1]) + day - 1


def read_flag(raw: bytes) -> Any:
    number = read_integer(raw)
    return bool(number) if number in (0, 1) else REJECTED


def read_text(raw: bytes) -> Any:
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError:
        return REJECTED
    return REJECTED if len(text) > LENGTH or "\0" in text else text


READERS: dict[Kind, Reader] = {
    Kind.INTEGER: read_integer,
    Kind.MONEY: read_amount,
    Kind.INSTANT: read_instant,
    Kind.DATE: read_date,
    Kind.FLAG: read_flag,
    Kind.TEXT: read_text,
}
GARBAGE = b"\xff garbage"  # of no kind

# --- The values ---

numbers = st.from_regex(rb"\A[+-]?[0-9]{0,25}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,4})?\Z")
digits = st.one_of(st.integers(-(2**65), 2**65), st.integers(-5, 5)).map(lambda number: str(number).encode())
days = st.from_regex(
    rb"\A[0-9]{3,5}-[01]?[0-9]-[0-3]?[0-9]([ T][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?\Z"
)
moments = st.datetimes().map(lambda instant: str(instant).encode())
written = st.text(max_size=7).map(lambda text: text.encode("utf-8", "surrogatepass"))
values = st.one_of(st.binary(max_size=12), numbers, digits, days, moments, written)
columns = st.lists(st.one_of(st.none(), values), max_size=6)


def parse_raw(kind: Kind, *raw: bytes | None) -> list[Any]:
    column = pa.chunked_array([pa.array(raw, pa.binary())])
    parsed, rejected = parse(column, Column("x", kind, LENGTH))
    parsed.validate(full=True)
    return [REJECTED if bad else value for value, bad in zip(parsed.to_pylist(), rejected.tolist(), strict=True)]


@pytest.mark.parametrize("kind", list(READERS))
@fuzzed()
@given(raw=columns)
@example(raw=[b"1.0000000000000000000000000000001"])
@example(raw=[b"0E0000", b"1e-02"])
@example(raw=[b"0000-01-01 00:00:00", None])
@example(raw=[b"0000-01-01"])
def test_value_is_that_of_the_second_reader_or_rejected(kind: Kind, raw: list[bytes | None]) -> None:
    expected = [None if value is None else READERS[kind](value) for value in raw]
    assert parse_raw(kind, *raw) == expected
    assert parse_raw(kind, *raw, GARBAGE) == [*expected, REJECTED]


@fuzzed()
@given(kopiykas=st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=6))
def test_exact_integers_of_a_server_are_amounts_within_bounds(kopiykas: list[int | None]) -> None:
    parsed, rejected = parse(pa.chunked_array([pa.array(kopiykas, pa.int64())]), Column("x", Kind.MONEY, LENGTH))
    outside = [value is not None and abs(value) > MAX_KOPIYKAS for value in kopiykas]
    assert rejected.tolist() == outside
    assert parsed.to_pylist() == [None if bad else value for value, bad in zip(kopiykas, outside, strict=True)]
