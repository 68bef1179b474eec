"""Hashes of the facts as they were written, summed by segment: how a full run finds what another hand has changed in the star."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from apps.etl.declarations import Fact
from apps.etl.slices import SEGMENT
from apps.etl.sums import Sums, add_up, hash_values, sum_by, to_columns
from apps.etl.tables import FACTS

# 40 bits of a row's hash: the sum of a segment of any size fits 64.
ROW_HASH = {"postgresql": "hash_record_extended(ROW({columns}), 0) >> 24", "sqlite": "row_hash({columns})"}

ADD_TO_SEGMENT = """
INSERT INTO etl_segment (segment, star) VALUES (%s, %s) ON CONFLICT (segment) DO UPDATE SET star = etl_segment.star + excluded.star
"""


def sum_facts(cursor: Any, fact: Fact, condition: str = "1 = 1") -> Sums:
    """Return by segment the sum of the hashes of the fact's rows that meet `condition`: 1.3 s for 2.25 million."""
    vendor = cursor.db.vendor
    if vendor == "sqlite":
        cursor.db.connection.create_function("row_hash", -1, hash_values, deterministic=True)
    row_hash = ROW_HASH[vendor].format(columns=", ".join([fact.key, *fact.columns]))
    cursor.execute(f"SELECT {fact.sliced_by} / {SEGMENT}, CAST(SUM({row_hash}) AS bigint) FROM {fact.table} WHERE {condition} GROUP BY 1")
    return sum_by(*to_columns(cursor.fetchall(), 2))


def sum_star(cursor: Any) -> Sums:
    return add_up([sum_facts(cursor, fact) for fact in FACTS])


@contextmanager
def star_recorded(cursor: Any, fact: Fact, condition: str) -> Iterator[None]:
    """Add to etl_segment what the block changes in the rows that meet `condition`."""
    before = sum_facts(cursor, fact, condition)
    yield
    add_to_segments(cursor, sum_facts(cursor, fact, condition).minus(before))


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
