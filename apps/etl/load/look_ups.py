"""Rows of few ids, found by an index instead of by a look at every row of their table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FEW = 50  # times as many rows has the table
# Of a table or of all its partitions, as last analyzed.
ROWS = """
SELECT COALESCE(SUM(GREATEST(c.reltuples, 0)), 0)::bigint FROM pg_partition_tree(%s::regclass) JOIN pg_class AS c ON c.oid = relid
WHERE isleaf
"""
JOINS = ("enable_hashjoin", "enable_mergejoin")


@contextmanager
def few_looked_up(cursor: Any, staged: str, table: str) -> Iterator[None]:
    """Let PostgreSQL look each row of `staged` up in `table`, where they are few.

    Its planner does not foresee that for each of them all partitions but one are passed over, and read 2.25 million rows for 22 410.
    """
    if cursor.db.vendor != "postgresql" or not has_few(cursor, staged, table):
        yield
        return
    for join in JOINS:
        cursor.execute(f"SET LOCAL {join} = off")
    yield
    for join in JOINS:
        cursor.execute(f"SET LOCAL {join} TO DEFAULT")


def has_few(cursor: Any, staged: str, table: str) -> bool:
    cursor.execute(f"SELECT COUNT(*) FROM {staged}")
    [count] = cursor.fetchone()
    cursor.execute(ROWS, [table])
    [rows] = cursor.fetchone()
    return bool(count * FEW <= rows)
