"""Raw columns to typed columns. Every parser returns the values, empty where they are unreadable, and a mask of the unreadable rows.

A column is parsed at once, and value by value only where that fails, so that a clean batch pays nothing for dirty ones.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from apps.etl.declarations import Column, Kind
from apps.etl.money import MAX_KOPIYKAS
from apps.etl.slices import parse_integer

Mask = npt.NDArray[np.bool_]
Parsed = tuple[pa.Array, Mask]

AMOUNT = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?0*[0-9]{1,3})?")
DAY = re.compile(rb"([0-9]{4}-[0-9]{2}-[0-9]{2})([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?)?")
SHORTEST_INSTANT = len("2024-01-31 10:00:00")
FIRST_INSTANT = datetime(1, 1, 1)  # Arrow alone has a year 0
INSTANT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def parse(values: pa.ChunkedArray, column: Column) -> Parsed:
    raw = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return PARSERS[column.kind](raw, column)


def integers(raw: pa.Array, column: Column) -> Parsed:
    if pa.types.is_integer(raw.type):
        return raw, none(raw)
    return parse_column(raw, lambda: parse_digits(raw), one_integer, pa.int64())


def parse_digits(raw: pa.Array) -> pa.Array:
    """Parse decimal digits only: Arrow alone takes 0x10 for sixteen."""
    words = raw.cast(pa.string())
    if pc.any(pc.match_substring(words, "x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid
    return words.cast(pa.int64())


def kopiykas(raw: pa.Array, column: Column) -> Parsed:
    """Parse UAH amounts as whole kopiykas. Unreadable: anything outside DECIMAL(12,2), a third decimal included."""
    if pa.types.is_integer(raw.type):
        values, bad = raw, none(raw)
    else:
        values, bad = parse_column(raw, lambda: parse_kopiykas(raw), one_amount, pa.int64())
    outside = mask(pc.or_(pc.greater(values, MAX_KOPIYKAS), pc.less(values, -MAX_KOPIYKAS)))  # abs() of the least integer is itself
    return blanked(values, outside), bad | outside


def parse_kopiykas(raw: pa.Array) -> pa.Array:
    amounts = raw.cast(pa.string()).cast(pa.decimal128(20, 2))
    return pc.cast(pc.multiply(amounts, pa.scalar(Decimal(100), pa.decimal128(3, 0))), pa.int64())


def instants(raw: pa.Array, column: Column) -> Parsed:
    """Parse naive UTC instants with microseconds."""
    return parse_column(raw, lambda: parse_full_instants(raw), one_instant, pa.timestamp("us"))


def parse_full_instants(raw: pa.Array) -> pa.Array:
    """Parse instants with a time: Arrow alone takes a date for its midnight."""
    if pc.any(pc.less(pc.binary_length(raw), SHORTEST_INSTANT)).as_py():
        raise pa.ArrowInvalid
    return refuse_year_zero(raw.cast(pa.string()).cast(pa.timestamp("us")))


def dates(raw: pa.Array, column: Column) -> Parsed:
    return parse_column(raw, lambda: refuse_year_zero(raw.cast(pa.string()).cast(pa.date32())), one_date, pa.date32())


def refuse_year_zero(values: pa.Array) -> pa.Array:
    if pc.any(pc.less(values, pa.scalar(FIRST_INSTANT).cast(values.type))).as_py():
        raise pa.ArrowInvalid
    return values


def flags(raw: pa.Array, column: Column) -> Parsed:
    numbers, bad = integers(raw, column)
    other = mask(pc.invert(pc.is_in(numbers, pa.array([0, 1], pa.int64()))) if len(numbers) else numbers.cast(pa.bool_()))
    other &= ~mask(pc.is_null(numbers))
    return blanked(numbers, other).cast(pa.bool_()), bad | other


def texts(raw: pa.Array, column: Column) -> Parsed:
    """Parse texts. Unreadable: invalid UTF-8, more characters than the warehouse's column holds, a NUL, which PostgreSQL cannot store."""
    values, bad = parse_column(raw, lambda: raw.cast(pa.string()), one_text, pa.string())
    wrong = mask(pc.or_(pc.greater(pc.utf8_length(values), column.length), pc.match_substring(values, "\0")))
    return blanked(values, wrong), bad | wrong


PARSERS: dict[Kind, Callable[[pa.Array, Column], Parsed]] = {
    Kind.INTEGER: integers,
    Kind.MONEY: kopiykas,
    Kind.INSTANT: instants,
    Kind.DATE: dates,
    Kind.FLAG: flags,
    Kind.TEXT: texts,
}


def parse_column(raw: pa.Array, at_once: Callable[[], pa.Array], one_by_one: Callable[[bytes], Any], kind: pa.DataType) -> Parsed:
    try:
        return at_once(), none(raw)
    except pa.ArrowInvalid:
        values = [None if value is None else one_by_one(value) for value in raw.to_pylist()]
    bad = np.array([value is None for value in values], dtype=bool) & ~mask(pc.is_null(raw))
    return pa.array(values, kind), bad


def one_integer(value: bytes) -> int | None:
    return parse_integer(value.decode("ascii", "replace"))


def one_amount(value: bytes) -> int | None:
    if not AMOUNT.fullmatch(value):
        return None
    amount = Context(prec=len(value) + 2).multiply(Decimal(value.decode()), 100)  # exact: 28 digits would round a third decimal away
    whole = int(amount)
    return whole if whole == amount and abs(whole) <= MAX_KOPIYKAS else None


def one_instant(value: bytes) -> datetime | None:
    found = INSTANT.fullmatch(value.decode("ascii", "replace"))
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        return datetime(year, month, day, hour, minute, second, int((found[7] or "").ljust(6, "0")))
    except ValueError:
        return None


def one_date(value: bytes) -> date | None:
    found = DAY.fullmatch(value)
    try:
        return date.fromisoformat(found[1].decode()) if found else None
    except ValueError:
        return None


def one_text(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def none(values: pa.Array) -> Mask:
    return np.zeros(len(values), dtype=bool)


def mask(values: Any) -> Mask:
    """Return an Arrow boolean as numpy, with empty as False."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)


def blanked(values: pa.Array, where: Mask) -> pa.Array:
    return pc.if_else(pa.array(where), pa.scalar(None, values.type), values) if where.any() else values
