"""The set-based merge: the same SQL on PostgreSQL and SQLite (3.39 or newer, for IS DISTINCT FROM)."""

from typing import Any


def differs(columns: list[str], one: str, other: str) -> str:
    return " OR ".join(f"{one}.{column} IS DISTINCT FROM {other}.{column}" for column in columns)


def update_changed(cursor: Any, table: str, stage: str, key: str, columns: list[str], extra: dict[str, str], found: str = "TRUE") -> int:
    """Update the rows of `table` whose `columns` or `extra` (column -> SQL literal) differ from the staged ones. Return how many.

    `found`: what else the row `t` of a key has in common with the staged one, `s`.
    """
    wanted = {column: f"s.{column}" for column in columns} | extra
    assignments = ", ".join(f"{column} = {value}" for column, value in wanted.items())
    states = [f"t.{column} IS DISTINCT FROM {value}" for column, value in extra.items() if column != "run_id"]
    condition = " OR ".join([differs(columns, "t", "s"), *states])
    cursor.execute(f"UPDATE {table} AS t SET {assignments} FROM {stage} AS s WHERE t.{key} = s.{key} AND {found} AND ({condition})")
    return int(cursor.rowcount)


def insert_new(cursor: Any, table: str, stage: str, key: str, columns: list[str], extra: dict[str, str], is_new: str = "") -> int:
    """Insert the staged rows, `s`, that meet the condition `is_new`; by default those whose key the table lacks. Return how many."""
    names = ", ".join([key, *columns, *extra])
    values = ", ".join([*(f"s.{column}" for column in (key, *columns)), *extra.values()])
    where = is_new or f"NOT EXISTS (SELECT 1 FROM {table} AS t WHERE t.{key} = s.{key})"
    cursor.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM {stage} AS s WHERE {where}")
    return int(cursor.rowcount)


def delete(cursor: Any, table: str, where: str) -> int:
    cursor.execute(f"DELETE FROM {table} WHERE {where}")
    return int(cursor.rowcount)
