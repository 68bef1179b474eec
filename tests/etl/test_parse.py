"""Parsing of raw columns: a value is parsed the same whatever other values its column has."""

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest

from apps.etl.declarations import Column, Kind
from apps.etl.transform.parse import parse

GARBAGE = b"\xff garbage"  # invalid for every kind: forces the slow path for its column
INVALID = object()

INTEGERS = {
    b"0": 0,
    b"-7": -7,
    b"007": 7,
    b"-0": 0,
    b"999999999999999999": 10**18 - 1,
    b"": INVALID,
    b"1.5": INVALID,
    b"1e3": INVALID,
    b" 5": INVALID,
    b"+5": INVALID,
    b"1_000": INVALID,
    b"0x10": INVALID,
    b"-0X1F": INVALID,
    b"99999999999999999999": INVALID,
    "٣".encode(): INVALID,
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
    b"10000000000.00": INVALID,
    b"1.234": INVALID,
    b"1.0e+15": INVALID,
    b"1e999999": INVALID,
    b"1e-999999": INVALID,
    b"Infinity": INVALID,
    b"-inf": INVALID,
    b"NaN": INVALID,
    b"1_000": INVALID,
    b" 1.5": INVALID,
    b"1,5": INVALID,
    b"": INVALID,
    b"abc": INVALID,
    b"0x1": INVALID,
}
INSTANTS = {
    b"2024-02-29 23:59:59.999999": datetime(2024, 2, 29, 23, 59, 59, 999_999),
    b"2024-01-15 10:00:00": datetime(2024, 1, 15, 10),
    b"2024-01-15T10:00:00": datetime(2024, 1, 15, 10),
    b"2024-01-15 10:00:00.5": datetime(2024, 1, 15, 10, 0, 0, 500_000),
    b"0000-00-00 00:00:00": INVALID,
    b"2024-02-30 10:00:00": INVALID,
    b"2024-01-15 24:00:00": INVALID,
    b"2024-01-15 10:00:60": INVALID,
    b"2024-01-15 10:00:00Z": INVALID,
    b"2024-01-15 10:00:00+02:00": INVALID,
    b"2024-01-15 10:00:00.1234567": INVALID,
    b"2024-01-15": INVALID,
    b"2024-01-15 10": INVALID,
    b"2024-01-15 10:00": INVALID,
    b"": INVALID,
    b"yesterday": INVALID,
}
DATES = {
    b"2024-02-29": date(2024, 2, 29),
    b"2024-02-29 00:00:00": date(2024, 2, 29),
    b"0000-00-00": INVALID,
    b"2023-02-29": INVALID,
    b"20240229": INVALID,
    b"2024-W09-4": INVALID,
    b"2024-02-29x": INVALID,
    b"2024-02-2": INVALID,
    b"": INVALID,
}
FLAGS = {b"0": False, b"1": True, b"2": INVALID, b"-1": INVALID, b"true": INVALID, b"": INVALID}
TEXTS = {
    b"": "",
    "Їжак".encode(): "Їжак",
    ("Я" * 5).encode(): "Я" * 5,
    ("Я" * 6).encode(): INVALID,
    "👩‍💻".encode(): "👩‍💻",
    b"\xd0\xff": INVALID,
    b"\xed\xa0\x80": INVALID,
    b"\xc0\x80": INVALID,
    b"a\0b": INVALID,
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


def parse_values(kind: Kind, *values: Any, arrow: pa.DataType | None = None) -> tuple[list[Any], list[bool]]:
    column = pa.chunked_array([pa.array(values, arrow or pa.binary())])
    parsed, invalid = parse(column, Column("x", kind, 5))
    return parsed.to_pylist(), invalid.tolist()


@pytest.mark.parametrize("others", [[], [GARBAGE]], ids=["alone", "with garbage"])
@pytest.mark.parametrize(("kind", "value", "expected"), CASES)
def test_value_is_parsed_the_same_alone_and_with_invalid_ones(kind: Kind, value: bytes, expected: Any, others: list[bytes]) -> None:
    values, invalid = parse_values(kind, value, None, *others)
    assert values == [None if expected is INVALID else expected, None] + [None] * len(others)
    assert invalid == [expected is INVALID, False] + [True] * len(others)


@pytest.mark.parametrize("kind", [Kind.INTEGER, Kind.MONEY, Kind.INSTANT, Kind.DATE, Kind.FLAG, Kind.TEXT])
def test_empty_columns_and_values_are_accepted(kind: Kind) -> None:
    assert parse_values(kind) == ([], [])
    assert parse_values(kind, None, None) == ([None, None], [False, False])


def test_exact_integers_of_a_server_are_unchanged() -> None:
    assert parse_values(Kind.INTEGER, 7, None, -(2**63), arrow=pa.int64()) == ([7, None, -(2**63)], [False] * 3)
    assert parse_values(Kind.MONEY, 999_999_999_999, -5, None, 10**12, arrow=pa.int64()) == (
        [999_999_999_999, -5, None, None],
        [False, False, False, True],
    )
    assert parse_values(Kind.FLAG, 0, 1, 2, None, arrow=pa.int64()) == ([False, True, None, None], [False, False, True, False])
