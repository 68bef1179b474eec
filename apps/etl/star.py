"""Hashes of the star's rows as they were written, of facts summed by segment: how a full run finds what another hand has changed."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from apps.etl.declarations import Fact, Target
from apps.etl.hashing import hash_values
from apps.etl.slices import SEGMENT, Bounds, within
from apps.etl.sums import Sums, add_up, sum_by, to_columns
from apps.etl.tables import FACTS

# 40 bits of a row's hash: the sum of a segment of any size fits 64.
ROW_HASH = {"postgresql": "hash_record_extended(ROW({columns}), 0) >> 24", "sqlite": "row_hash({columns})"}

ADD_TO_SEGMENT = """
INSERT INTO etl_segment (segment, star) VALUES (%s, %s) ON CONFLICT (segment) DO UPDATE SET star = etl_segment.star + excluded.star
"""


def hash_row(cursor: Any, columns: Iterable[str]) -> str:
    """Return SQL for the hash of a row."""
    vendor = cursor.db.vendor
    if vendor == "sqlite":
        cursor.db.connection.create_function("row_hash", -1, hash_values, deterministic=True)
    return ROW_HASH[vendor].format(columns=", ".join(columns))


def hash_fact(cursor: Any, fact: Fact, alias: str) -> str:
    """Return SQL for the hash of a row of the fact, or of one that has its columns."""
    return hash_row(cursor, [f"{alias}.{column}" for column in (fact.key, *fact.columns)])


def sum_dimension(cursor: Any, target: Target, bounds: Bounds) -> int:
    """Return the sum of the hashes of the dimension's rows with natural keys within `bounds`."""
    row = hash_row(cursor, [target.key, target.natural, *target.columns, "is_deleted", "is_inferred"])
    where = " AND ".join([f"{target.key} > 0", *within(target.natural, bounds)])
    cursor.execute(f"SELECT CAST(COALESCE(SUM({row}), 0) AS bigint) FROM {target.table} WHERE {where}")
    return int(cursor.fetchone()[0])


def sum_facts(cursor: Any, fact: Fact, condition: str = "1 = 1", table: str = "") -> Sums:
    """Return by segment the sum of the hashes of the fact's rows that meet `condition`: 1.3 s for 2.25 million. `table`: one like it."""
    row = hash_fact(cursor, fact, "t")
    return sum_hashes(cursor, f"SELECT {fact.sliced_by} AS id, {row} AS hash FROM {table or fact.table} AS t WHERE {condition}")


def sum_hashes(cursor: Any, rows: str) -> Sums:
    """Return by segment the sum of the hashes that the query `rows` returns as (id, hash)."""
    cursor.execute(f"SELECT id / {SEGMENT}, CAST(SUM(hash) AS bigint) FROM ({rows}) AS hashes GROUP BY 1")
    return sum_by(*to_columns(cursor.fetchall(), 2))


def sum_star(cursor: Any) -> Sums:
    return add_up([sum_facts(cursor, fact) for fact in FACTS])


@contextmanager
def star_recorded(cursor: Any, fact: Fact, condition: str) -> Iterator[None]:
    """Add to etl_segment what the block changes in the rows that meet `condition`."""
    before = sum_facts(cursor, fact, condition)
    yield
    add_to_segments(cursor, sum_facts(cursor, fact, condition).minus(before))


def clear_star(cursor: Any) -> None:
    """Forget the sums of all segments, for facts that are built anew and add theirs."""
    cursor.execute("UPDATE etl_segment SET star = 0")


def record_star(cursor: Any, segments: Collection[int] | None = None) -> None:
    """Record the star as it is, of these segments or of all."""
    some = f" IN ({', '.join(map(str, segments))})" if segments is not None else " IS NOT NULL"
    cursor.execute(f"UPDATE etl_segment SET star = 0 WHERE segment{some}")
    for fact in FACTS:
        add_to_segments(cursor, sum_facts(cursor, fact, f"{fact.sliced_by} / {SEGMENT}{some}"))


def add_to_segments(cursor: Any, sums: Sums) -> None:
    """Add the sums to those of etl_segment; insert the segments that are not there."""
    rows = [(int(segment), int(value)) for segment, value in zip(sums.keys, sums.values, strict=True) if value]
    cursor.executemany(ADD_TO_SEGMENT, rows)
