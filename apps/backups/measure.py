"""Measures of a database, a few numbers for each table: enough to see that a restored database equals the dumped one."""

from collections.abc import Collection
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups.catalog import DECIMAL_TYPES, INTEGER_TYPES, Column, Table, list_columns, list_tables, quote_name

Measure = dict[str, int | str | None]  # of one table
Measures = dict[str, Measure]  # by table


def measure_tables(connection: BaseDatabaseWrapper, without_rows: Collection[str] = (), left_out: Collection[Table] = ()) -> Measures:
    """Measure each table: its rows, the largest integer key, the sum of each decimal column. Runs in the session's transaction.

    Tables `without_rows` are measured as if they were empty: those whose rows a dump leaves out. Tables `left_out` are not measured.
    """
    with connection.cursor() as cursor:
        columns = list_columns(cursor)
        return {
            table.label: measure_table(cursor, table, columns[table], " WHERE 1 = 0" if table.label in without_rows else "")
            for table in list_tables(cursor)
            if table not in left_out
        }


def measure_table(cursor: Any, table: Table, columns: list[Column], where: str = "") -> Measure:
    vendor = cursor.db.vendor
    aggregates = {"rows": "COUNT(*)"} | list_aggregates(vendor, columns)
    cursor.execute(f"SELECT {', '.join(aggregates.values())} FROM {table.quoted(vendor)}{where}")  # noqa: S608  names from the catalog
    rows, *others = cursor.fetchone()
    names = list(aggregates)[1:]
    return {"rows": rows} | {name: None if value is None else str(value) for name, value in zip(names, others, strict=True)}


def list_aggregates(vendor: str, columns: list[Column]) -> dict[str, str]:
    """Return the name and SQL of each measure of a table besides its rows."""
    keys = [column for column in columns if column.in_key]
    aggregates = {}
    for column in columns:
        if keys == [column] and column.base_type in INTEGER_TYPES:
            aggregates[f"largest {column.name}"] = f"MAX({quote_name(vendor, column.name)})"
        if column.base_type in DECIMAL_TYPES:
            aggregates[f"sum of {column.name}"] = f"SUM({quote_name(vendor, column.name)})"
    return aggregates


def find_differences(expected: Measures, actual: Measures) -> list[str]:
    """Return a phrase for each table or number that differs."""
    differences = [f"{table} is missing" for table in sorted(expected.keys() - actual.keys())]
    has_schemas = any("." in table for table in expected)  # earlier versions measured one schema and dumped all
    differences += [f"{table} is unexpected" for table in sorted(actual.keys() - expected.keys()) if has_schemas or "." not in table]
    for table in sorted(expected.keys() & actual.keys()):
        for name in sorted(expected[table].keys() | actual[table].keys()):
            before, after = expected[table].get(name), actual[table].get(name)
            if before != after:
                differences.append(f"{table}: {name} is {after}, not {before}")
    return differences


def count_rows(measures: Measures) -> int:
    return sum(int(table["rows"] or 0) for table in measures.values())
