"""The binary COPY stream, read back from PostgreSQL."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.etl.load.binary import TooLarge, encode
from apps.etl.load.copying import copy_packed, pack

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
MONEY = pa.decimal128(24, 2)
SCHEMA = pa.schema(
    [
        ("small", pa.int32()),
        ("large", pa.int64()),
        ("word", pa.string()),
        ("amount", MONEY),
        ("other", MONEY),
        ("at", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("truth", pa.bool_()),
    ]
)
COLUMNS = (
    "small integer, large bigint, word varchar(20), amount numeric(24,2), other numeric(24,2), at timestamptz, day date, truth boolean"
)
LARGEST = Decimal(2**63 - 1).scaleb(-2)
Row = tuple[Any, ...]


def copy_and_read_back(rows: list[Row], binary: bool = True) -> list[Row]:
    """Copy the rows into a PostgreSQL table and return what it holds."""
    table = pa.table([pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)], schema=SCHEMA)
    with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS copied")
        cursor.execute(f"CREATE TEMPORARY TABLE copied ({COLUMNS})")
        copy_packed(cursor, "copied", pack(table, binary=binary))
        cursor.execute("SELECT * FROM copied")
        return [tuple(row) for row in cursor.fetchall()]


def skip_without_postgresql() -> None:
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("needs PostgreSQL")


AT = datetime(2026, 3, 29, 1, 2, 3, 456_789, tzinfo=UTC)
ROWS: list[Row] = [
    (1, 2**63 - 1, "paid", Decimal("0.01"), Decimal("-0.01"), AT, date(2026, 3, 29), True),
    (-(2**31), -(2**63), "shipped", Decimal("0.00"), Decimal("9999999999.99"), datetime(1970, 1, 1, tzinfo=UTC), date(1999, 12, 31), False),
    (
        2**31 - 1,
        0,
        "їжак",
        Decimal("-9999999999.99"),
        Decimal("10000.00"),
        datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        None,
        True,
    ),
    (0, None, None, None, LARGEST, None, date(2000, 1, 1), None),
    (None, 1, "paid", Decimal("99999999.00"), None, AT, date(1900, 2, 28), False),
    (5, 5, "x" * 20, Decimal("100000000.05"), -LARGEST, datetime(2200, 1, 1, tzinfo=UTC), date(2200, 2, 28), True),
    (None, None, None, None, None, None, None, None),
]


@pytest.mark.parametrize("binary", [True, False])
def test_values_are_copied_unchanged(binary: bool) -> None:
    skip_without_postgresql()
    assert copy_and_read_back(ROWS, binary) == ROWS


amounts = (
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1).map(lambda units: Decimal(units).scaleb(-2)) | st.sampled_from([Decimal(0), LARGEST])
)
lines = st.tuples(
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    amounts,
    st.none() | st.integers(0, 10**9).map(lambda units: Decimal(units).scaleb(-2)),
    st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2900, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC)),
    st.none() | st.dates(date(1, 1, 1)),
    st.none() | st.booleans(),
)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(rows=st.lists(lines, min_size=1, max_size=20))
def test_generated_rows_are_copied_unchanged(rows: list[Row]) -> None:
    skip_without_postgresql()
    assert copy_and_read_back(rows) == rows


TOO_LARGE = Decimal(2**63).scaleb(-2)


@pytest.mark.parametrize("amount", [TOO_LARGE, -TOO_LARGE - 1, Decimal("9999999999999999999999.99")])
def test_an_amount_beyond_64_bits_raises_too_large(amount: Decimal) -> None:
    block = pa.record_batch([pa.array([Decimal("1.00"), amount], MONEY)], names=["amount"])
    with pytest.raises(TooLarge):
        encode(block)


def test_an_amount_beyond_64_bits_is_copied_as_text() -> None:
    skip_without_postgresql()
    rows: list[Row] = [(1, 1, "paid", Decimal("9999999999999999999999.99"), Decimal("0.01"), AT, None, None), ROWS[0]]
    assert copy_and_read_back(rows) == rows


def test_a_slice_of_a_batch_is_encoded_as_that_slice() -> None:
    whole = pa.record_batch(
        [pa.array([Decimal(number) for number in range(9)], MONEY), pa.array([None, *range(8)], pa.int64())], names=["a", "b"]
    )
    copied = pa.record_batch([pa.array([Decimal(3), Decimal(4)], MONEY), pa.array([2, 3], pa.int64())], names=["a", "b"])
    assert list(encode(whole.slice(3, 2))) == list(encode(copied))
