"""Build raw batches like those of the two kinds of snapshot, from rows as the oracle reads them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from apps.etl.declarations import Kind, Source
from apps.etl.metadata import set_metadata
from tests.oracle import Raw

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EXACT = (Kind.INTEGER, Kind.FLAG, Kind.MONEY)


def make_sqlite_batch(source: Source, rows: Sequence[Raw]) -> pa.Table:
    """Build a batch with every value as the bytes of its text."""
    return pa.table({column.name: pa.array([row[column.name] for row in rows], pa.binary()) for column in source.columns})


def make_mysql_batch(source: Source, rows: Sequence[Raw]) -> pa.Table:
    """Build a batch with integers, money in kopiykas, and everything else as bytes."""
    columns = {}
    for column in source.columns:
        values: list[Any] = [row[column.name] for row in rows]
        if column.kind is Kind.MONEY:
            values = [None if value is None else int(Decimal(value.decode()) * 100) for value in values]
        elif column.kind in EXACT:
            values = [None if value is None else int(value) for value in values]
        columns[column.name] = pa.array(values, pa.int64() if column.kind in EXACT else pa.binary())
    return pa.table(columns)


def set_clock(batches: Mapping[str, pa.Table], now: datetime = NOW) -> dict[str, pa.Table]:
    return {**batches, "orders": set_metadata(batches["orders"], clock=now.isoformat())}


def make_row(**values: object) -> Raw:
    """Return a raw row from plain values."""
    return {name: value if isinstance(value, bytes | None) else str(value).encode() for name, value in values.items()}
