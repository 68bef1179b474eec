"""Batches: of damaged bytes a whole table is read, or the batch is named as damaged; also where the checksum was computed anew."""

import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.etl.batch import decode, encode
from techmarket.errors import BatchDamaged
from tests.fuzz.inputs import damaged, fuzzed

ROWS = 50
TABLE = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "name": pa.array([f"row {number}".encode() if number % 7 else None for number in range(ROWS)], pa.binary()),
        "at": pa.array([number * 1_000 for number in range(ROWS)], pa.timestamp("us")),
    }
)
BODY, CHECKSUM = encode(TABLE)


def read_or_refuse(body: bytes, checksum: int, rows: int = ROWS, positions: list[int] | None = None) -> Any:
    try:
        table = decode(body, checksum, rows, positions)
    except BatchDamaged:
        return None
    table.validate()
    return table


@fuzzed(3)
@given(body=damaged(BODY))
def test_damage_is_found_by_the_checksum(body: bytes) -> None:
    table = read_or_refuse(body, CHECKSUM)
    assert table is None if body != BODY else table.equals(TABLE)


@pytest.mark.parametrize("make", [damaged, lambda body: st.binary(max_size=200)], ids=["damaged", "any bytes"])
@fuzzed(3)
@given(data=st.data())
def test_damage_with_another_checksum_is_named(make: Callable[[bytes], st.SearchStrategy[bytes]], data: st.DataObject) -> None:
    body = data.draw(make(BODY))
    table = read_or_refuse(body, zlib.crc32(body), positions=data.draw(st.sampled_from([None, [0], [2, 1]])))
    assert table is None or table.num_rows == ROWS


COLUMNS = {
    "binary": (pa.binary(), st.binary(max_size=12)),
    "integer": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "text": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    "flag": (pa.bool_(), st.booleans()),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    size = draw(st.integers(0, 6))
    columns = {}
    for name in draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True)):
        kind, values = COLUMNS[name]
        columns[name] = pa.array(draw(st.lists(st.one_of(st.none(), values), min_size=size, max_size=size)), kind)
    return pa.table(columns)


@fuzzed()
@given(table=tables())
def test_batch_is_read_as_it_was_written(table: pa.Table) -> None:
    body, checksum = encode(table)
    assert decode(body, checksum, table.num_rows).equals(table)
    assert decode(memoryview(body), checksum, table.num_rows, [0]).column(0).equals(table.column(0))
