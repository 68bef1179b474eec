"""Raw columns to typed columns: whatever the rows beside it, a value is read the same."""

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest

from apps.etl.declarations import Column, Kind
from apps.etl.transform.parse import parse

GARBAGE = b"\xff garbage"  # no kind takes it: it sends the column the slow way
BAD = object()

INTEGERS = {
    b"0": 0,
    b"-7": -7,
    b"007": 7,
    b"-0": 0,
    b"999999999999999999": 10**18 - 1,
    b"": BAD,
    b"1.5": BAD,
    b"1e3": BAD,
    b" 5": BAD,
    b"+5": BAD,
    b"1_000": BAD,
    b"0x10": BAD,
    b"-0X1F": BAD,
    b"99999999999999999999": BAD,
    "٣".encode(): BAD,
}
AMOUNTS = {
    b"0": 0,
    b"12.5": 1250,
    b"12.50": 1250,
    b"1.230": 123,
    b"-0.01": -1,
    b"9999999999.99": 999_999_999_999,
    b"-9999999999.99": -999_999_999_999,
    b"1.0e+3": 100_000,
    b"1e-2": 1,
    b"10000000000.00": BAD,
    b"1.234": BAD,
    b"1.0e+15": BAD,
    b"1e999999": BAD,
    b"1e-999999": BAD,
    b"Infinity": BAD,
    b"-inf": BAD,
    b"NaN": BAD,
    b"1_000": BAD,
    b" 1.5": BAD,
    b"1,5": BAD,
    b"": BAD,
    b"abc": BAD,
    b"0x1": BAD,
}
INSTANTS = {
    b"2024-02-29 23:59:59.999999": datetime(2024, 2, 29, 23, 59, 59, 999_999),
    b"2024-01-15 10:00:00": datetime(2024, 1, 15, 10),
    b"2024-01-15T10:00:00": datetime(2024, 1, 15, 10),
    b"2024-01-15 10:00:00.5": datetime(2024, 1, 15, 10, 0, 0, 500_000),
    b"0000-00-00 00:00:00": BAD,
    b"2024-02-30 10:00:00": BAD,
    b"2024-01-15 24:00:00": BAD,
    b"2024-01-15 10:00:60": BAD,
    b"2024-01-15 10:00:00Z": BAD,
    b"2024-01-15 10:00:00+02:00": BAD,
    b"2024-01-15 10:00:00.1234567": BAD,
    b"2024-01-15": BAD,
    b"2024-01-15 10": BAD,
    b"2024-01-15 10:00": BAD,
    b"": BAD,
    b"yesterday": BAD,
}
DATES = {
    b"2024-02-29": date(2024, 2, 29),
    b"2024-02-29 00:00:00": date(2024, 2, 29),
    b"0000-00-00": BAD,
    b"2023-02-29": BAD,
    b"20240229": BAD,
    b"2024-W09-4": BAD,
    b"2024-02-29x": BAD,
    b"2024-02-2": BAD,
    b"": BAD,
}
FLAGS = {b"0": False, b"1": True, b"2": BAD, b"-1": BAD, b"true": BAD, b"": BAD}
TEXTS = {
    b"": "",
    "Їжак".encode(): "Їжак",
    ("Я" * 5).encode(): "Я" * 5,
    ("Я" * 6).encode(): BAD,
    "👩‍💻".encode(): "👩‍💻",
    b"\xd0\xff": BAD,
    b"\xed\xa0\x80": BAD,
    b"\xc0\x80": BAD,
    b"a\0b": BAD,
}
CASES = [
    (kind, value, expected)
    for kind, values in (
        (Kind.INTEGER, INTEGERS),
        (Kind.MONEY, AMOUNTS),
        (Kind.INSTANT, INSTANTS),
        (Kind.DATE, DATES),
        (Kind.FLAG, FLAGS),
        (Kind.TEXT, TEXTS),
    )
    for value, expected in values.items()
]


def read(kind: Kind, *values: Any, arrow: pa.DataType | None = None) -> tuple[list[Any], list[bool]]:
    column = pa.chunked_array([pa.array(values, arrow or pa.binary())])
    parsed, bad = parse(column, Column("x", kind, 5))
    return parsed.to_pylist(), bad.tolist()


@pytest.mark.parametrize("beside", [[], [GARBAGE]], ids=["alone", "beside garbage"])
@pytest.mark.parametrize(("kind", "value", "expected"), CASES)
def test_a_value_is_parsed_the_same_alone_and_beside_unreadable_ones(kind: Kind, value: bytes, expected: Any, beside: list[bytes]) -> None:
    values, bad = read(kind, value, None, *beside)
    assert values == [None if expected is BAD else expected, None] + [None] * len(beside)
    assert bad == [expected is BAD, False] + [True] * len(beside)


@pytest.mark.parametrize("kind", [Kind.INTEGER, Kind.MONEY, Kind.INSTANT, Kind.DATE, Kind.FLAG, Kind.TEXT])
def test_empty_columns_and_values_are_accepted(kind: Kind) -> None:
    assert read(kind) == ([], [])
    assert read(kind, None, None) == ([None, None], [False, False])


def test_exact_integers_of_a_server_pass_through() -> None:
    assert read(Kind.INTEGER, 7, None, -(2**63), arrow=pa.int64()) == ([7, None, -(2**63)], [False] * 3)
    assert read(Kind.MONEY, 999_999_999_999, -5, None, 10**12, arrow=pa.int64()) == (
        [999_999_999_999, -5, None, None],
        [False, False, False, True],
    )
    assert read(Kind.FLAG, 0, 1, 2, None, arrow=pa.int64()) == ([False, True, None, None], [False, False, True, False])
