"""Allocation, the calendar, surrogate keys, serialized batches, and the declarations against the models."""

import zlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from django.apps import apps
from django.db import models
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.etl.batch import decode, encode
from apps.etl.declarations import Fact, Kind, Source
from apps.etl.extract.facts import is_fingerprinted
from apps.etl.load.dimensions import date_keys
from apps.etl.tables import DIMENSIONS, EXTRACTION, FACT_TABLES, FACTS, ORDER_SOURCES, SNAPSHOT_ORDER, TARGETS
from apps.etl.transform import calendar, registry
from apps.etl.transform.allocation import allocate
from apps.etl.transform.dates import shop_dates
from apps.etl.transform.person import EMAIL
from techmarket.errors import BatchDamaged
from techmarket.messages import MESSAGES

quick = settings(deadline=None, max_examples=200, derandomize=True, database=None)

# --- Allocation ---


def allocate_amount(amount: int, *weights: int) -> list[int]:
    size = len(weights)
    shared = allocate(np.full(size, 7), np.array(weights, dtype=np.int64), np.full(size, amount, dtype=np.int64))
    return [int(share) for share in shared]


@pytest.mark.parametrize(
    ("amount", "weights", "expected"),
    [
        (100, (1,), [100]),
        (100, (1, 1, 1), [34, 33, 33]),
        (200, (1, 1, 1), [67, 67, 66]),
        (100, (0, 0, 0), [34, 33, 33]),
        (100, (0, 5, 0), [0, 100, 0]),
        (-100, (1, 1, 1), [-34, -33, -33]),
        (1, (1, 1, 1), [1, 0, 0]),
        (1, (1, 2, 1), [0, 1, 0]),
        (0, (3, 4), [0, 0]),
        (10, (3, 3, 1), [4, 4, 2]),
        (999_999_999_999, (999_999_999_999, 1), [999_999_999_998, 1]),
        (7 * 10**17, (999_999_999_999, 999_999_999_999, 999_999_999_998), [233333333333411111, 233333333333411111, 233333333333177778]),
    ],
)
def test_largest_remainder_gets_the_kopiyka(amount: int, weights: tuple[int, ...], expected: list[int]) -> None:
    assert sum(allocate_amount(amount, *weights)) == amount
    assert allocate_amount(amount, *weights) == expected


amounts = st.integers(-(10**18), 10**18) | st.integers(-100, 100)
groups = st.lists(st.tuples(st.lists(st.integers(0, 999_999_999_999) | st.integers(0, 3), min_size=1, max_size=6), amounts), max_size=5)


@quick
@given(groups=groups)
def test_shares_add_up_and_no_share_is_a_kopiyka_off(groups: list[tuple[list[int], int]]) -> None:
    group = np.array([number for number, (weights, _) in enumerate(groups) for _ in weights], dtype=np.int64)
    weight = np.array([each for weights, _ in groups for each in weights], dtype=np.int64)
    amount = np.array([amount for weights, amount in groups for _ in weights], dtype=np.int64)
    found = [int(share) for share in allocate(group, weight, amount)]
    for weights, amount in groups:
        group_shares, found = found[: len(weights)], found[len(weights) :]
        assert sum(group_shares) == amount
        even = weights if any(weights) else [1] * len(weights)
        assert all(abs(share * sum(even) - amount * each) < sum(even) for share, each in zip(group_shares, even, strict=True))


# --- The calendar ---


def orthodox_easter(year: int) -> date:
    """Compute Easter after Meeus, with 13 days from the Julian to the Gregorian calendar in this century."""
    a, b, c = year % 4, year % 7, year % 19
    d = (19 * c + 15) % 30
    e = (2 * a + 4 * b - d + 34) % 7
    month, day = divmod(d + e + 114, 31)
    return date(year, month, day + 1) + timedelta(days=13)


def public_holidays(year: int) -> set[date]:
    """Return the holidays of Article 73 of the Labour Code from 2022 on, with both changes of 2023 and the two days off in lieu in 2022."""
    easter = orthodox_easter(year)
    days = {(1, 1), (3, 8), (5, 1), (6, 28), (8, 24), (12, 25)}
    days |= {(1, 7), (5, 9), (7, 28)} if year < 2024 else {(5, 8), (7, 15)}
    days |= {(10, 14)} if year < 2023 else {(10, 1)}
    in_lieu = {date(2022, 1, 3), date(2022, 3, 7)} if year == 2022 else set()
    return {date(year, month, day) for month, day in days} | {easter, easter + timedelta(days=49)} | in_lieu


@pytest.mark.parametrize("year", [2022, 2023, 2024, 2025, 2026, 2027, 2028])
def test_the_public_holidays_of_ukraine(year: int) -> None:
    found = {row["date"] for row in calendar.days([year]).to_pylist() if row["is_holiday"]}
    assert sorted(found ^ public_holidays(year)) == []


@pytest.mark.parametrize(
    ("day", "week", "weekday"),
    [("2020-12-31", 53, 4), ("2021-01-03", 53, 7), ("2021-01-04", 1, 1), ("2024-12-30", 1, 1), ("2024-02-29", 9, 4), ("2026-01-01", 1, 4)],
)
def test_iso_weeks_and_days(day: str, week: int, weekday: int) -> None:
    row: Any = calendar.row(date.fromisoformat(day))
    assert (row["iso_week"], row["day_of_week"], row["is_weekend"]) == (week, weekday, weekday > 5)


@pytest.mark.parametrize(("year", "days"), [(2023, 365), (2024, 366), (2028, 366), (2100, 365)])
def test_year_has_every_day_once(year: int, days: int) -> None:
    found = [row["date"] for row in calendar.days([year]).to_pylist()]
    assert (len(found), found[0], found[-1]) == (days, date(year, 1, 1), date(year, 12, 31))
    assert date_keys(pa.chunked_array([found])).tolist() == [int(day.strftime("%Y%m%d")) for day in found]


def test_the_calendar_reaches_two_years_ahead() -> None:
    outcome = calendar.transform(date(2026, 12, 31))
    days = outcome.clean["date"].to_pylist()
    assert (days[0], days[-1], len(days)) == (date(2020, 1, 1), date(2028, 12, 31), 9 * 365 + 3)
    assert (outcome.counts["dim_date"].read, outcome.counts["dim_date"].loaded) == (len(days), len(days))


@pytest.mark.parametrize(
    ("utc", "day"),
    [
        ("2026-03-28 21:59:59.999999", "2026-03-28"),  # +02:00
        ("2026-03-28 22:00:00", "2026-03-29"),
        ("2026-03-29 20:59:59.999999", "2026-03-29"),  # +03:00 since 01:00 UTC
        ("2026-03-29 21:00:00", "2026-03-30"),
        ("2026-10-24 20:59:59.999999", "2026-10-24"),
        ("2026-10-24 21:00:00", "2026-10-25"),
        ("2026-10-25 21:59:59.999999", "2026-10-25"),  # +02:00 since 01:00 UTC
        ("2026-10-25 22:00:00", "2026-10-26"),
        ("2025-12-31 22:00:00", "2026-01-01"),
    ],
)
def test_shop_dates_on_both_days_that_the_clocks_change(utc: str, day: str) -> None:
    assert shop_dates(np.array([utc], dtype="datetime64[us]"), "Europe/Kyiv").tolist() == [date.fromisoformat(day)]


# --- Batches ---

BATCH = pa.table(
    {
        "id": [1, 2, None],
        "amount": pa.array([Decimal("0.01"), None, Decimal("-9999999999.99")], pa.decimal128(24, 2)),
        "raw": pa.array([b"\xd0\xff", None, b""], pa.binary()),
        "at": pa.array([datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
    }
).replace_schema_metadata({b"clock": b"noon"})


def test_batch_is_decoded_unchanged() -> None:
    for table in (BATCH, BATCH.slice(0, 0), BATCH.slice(1, 1)):
        body, checksum = encode(table)
        decoded = decode(memoryview(body), checksum, table.num_rows)
        assert decoded.equals(table) and decoded.schema.equals(table.schema, check_metadata=True)


def test_a_damaged_batch_is_refused() -> None:
    body, checksum = encode(BATCH)
    for at in range(0, len(body), 37):
        damaged = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises(BatchDamaged):
            decode(damaged, checksum, 3)
    with pytest.raises(BatchDamaged):
        decode(body[:-1], checksum, 3)
    with pytest.raises(BatchDamaged):
        decode(body, checksum, 4)
    assert zlib.crc32(body) == checksum


# --- Declarations against the models ---

RENAMED = {  # source table and column -> column of the warehouse
    ("payments", "method"): "payment_method",
    ("orders", "status"): "order_status",
    ("auth_users", "status"): "account_status",
}
ALL_MODELS: dict[str, Any] = {model._meta.db_table: model for model in apps.get_models()}


def get_max_length(table: str, column: str) -> int:
    [field] = [field for field in ALL_MODELS[table]._meta.concrete_fields if field.column == column]
    assert isinstance(field, models.CharField) and field.max_length
    return int(field.max_length)


@pytest.mark.parametrize("target", [target for target in TARGETS.values() if target.sources], ids=lambda target: target.table)
def test_declared_text_lengths_match_the_warehouse(target: Any) -> None:
    checked = 0
    for source in target.sources:
        for column in source.columns:
            name = RENAMED.get((source.table, column.name), column.name)
            if column.kind is Kind.TEXT and name in target.attributes and (source is target.source or name != column.name):
                assert column.length == get_max_length(target.table, name), (source.table, column.name)
                checked += 1
    expected = {"fact_sales": 2, "dim_customer": 4}
    if target.table in expected or target not in FACTS:
        assert checked == expected.get(target.table, len([c for c in target.source.columns if c.kind is Kind.TEXT]))
    for derived, column in (("category_name", "name"), ("root_category_name", "name"), ("root_name", "name")):
        if derived in target.attributes:
            assert get_max_length(target.table, derived) == get_max_length("dim_category", column)


def test_declared_columns_exist_with_their_kind() -> None:
    kinds = {
        Kind.INTEGER: (models.IntegerField, models.BigAutoField, models.ForeignKey),
        Kind.FLAG: (models.BooleanField,),
        Kind.MONEY: (models.DecimalField,),
        Kind.INSTANT: (models.DateTimeField,),
        Kind.DATE: (models.DateField,),
        Kind.TEXT: (models.CharField,),
    }
    sources: list[Source] = [source for target in TARGETS.values() for source in target.sources]
    for source in sources:
        fields = {field.column: field for field in ALL_MODELS[source.table]._meta.concrete_fields}
        assert ALL_MODELS[source.table]._meta.app_label == source.alias
        for column in source.columns:
            assert isinstance(fields[column.name], kinds[column.kind]), (source.table, column.name)
            assert (column.kind is Kind.DATE) == (type(fields[column.name]) is models.DateField)


def test_every_column_of_the_warehouse_is_declared() -> None:
    etl_columns = {"run_id", "is_deleted", "is_inferred"}
    for target in TARGETS.values():
        columns = {field.column for field in ALL_MODELS[target.table]._meta.concrete_fields} - etl_columns
        assert {target.key, target.natural, *target.columns} == columns, target.table
    assert {target.table for target in EXTRACTION} == set(TARGETS) == {*(each.table for each in DIMENSIONS), *FACT_TABLES}


def test_one_fact_reads_all_that_is_fingerprinted() -> None:
    assert [fact.table for fact in FACTS if is_fingerprinted(fact)] == ["fact_sales"]
    assert all(len({source.alias for source in sources}) == 1 for sources in ORDER_SOURCES.values())


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.table)
def test_every_fact_can_be_sliced_checked_and_transformed(fact: Fact) -> None:
    assert fact.key == fact.natural and fact.sliced_by in (fact.key, *fact.attributes)
    for source in fact.sources:
        assert source.sliced_by in {column.name for column in source.columns} and source.alias in SNAPSHOT_ORDER
        assert source.table in {each.table for sources in ORDER_SOURCES.values() for each in sources}, "its changes would not be found"
    own = {fact.key, *fact.columns}
    assert {each.column for each in (*fact.accepted_values, *fact.reconciliations)} <= own
    checks = [each.check for each in (*fact.equalities, *fact.reconciliations)]
    assert len(set(checks)) == len(checks) and set(checks) <= set(MESSAGES)
    assert fact.table in registry.FACTS
    assert not fact.has_product_columns or {"product_key", "quantity", "net_amount"} <= own


@pytest.mark.parametrize(
    ("email", "valid"),
    [
        ("a@example.com", True),
        ("їжак@пошта.укр", True),
        ("a.b+c@x.y.z", True),
        ("a at example.com", False),
        ("a@example", False),
        ("a@@example.com", False),
        ("a b@example.com", False),
        ("a@.com", False),
        ("a@example..com", False),
        ("", False),
    ],
)
def test_email_pattern(email: str, valid: bool) -> None:
    assert bool(EMAIL.fullmatch(email)) is valid
