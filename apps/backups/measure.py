"""Measures of a database, a few numbers for each table: enough to see that a restored database equals the dumped one."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

INTEGER_FIELDS = ("AutoField", "BigAutoField", "BigIntegerField", "IntegerField", "SmallAutoField", "SmallIntegerField")
Measure = dict[str, int | str | None]  # of one table
Measures = dict[str, Measure]  # by table


def measure_tables(connection: BaseDatabaseWrapper) -> Measures:
    """Measure each table: its rows, the largest integer key, the sum of each decimal column. Runs in the session's transaction."""
    with connection.cursor() as cursor:
        return {table: measure_table(cursor, table) for table in list_tables(cursor)}


def list_tables(cursor: Any) -> list[str]:
    """Return the tables, without views and without partitions, whose rows the partitioned table has."""
    return sorted(row.name for row in cursor.db.introspection.get_table_list(cursor) if row.type == "t")


def measure_table(cursor: Any, table: str) -> Measure:
    aggregates = {"rows": "COUNT(*)"} | dict(list_aggregates(cursor, table))
    quoted = cursor.db.ops.quote_name(table)
    cursor.execute(f"SELECT {', '.join(aggregates.values())} FROM {quoted}")  # noqa: S608  names come from the database itself
    rows, *others = cursor.fetchone()
    names = list(aggregates)[1:]
    return {"rows": rows} | {name: None if value is None else str(value) for name, value in zip(names, others, strict=True)}


def list_aggregates(cursor: Any, table: str) -> list[tuple[str, str]]:
    """Return the name and SQL of each measure of the table besides its rows."""
    introspection, quote = cursor.db.introspection, cursor.db.ops.quote_name
    key = introspection.get_primary_key_column(cursor, table)
    aggregates = []
    for column in introspection.get_table_description(cursor, table):
        field = introspection.get_field_type(column.type_code, column)
        field = field[0] if isinstance(field, tuple) else field
        if column.name == key and field in INTEGER_FIELDS:
            aggregates.append((f"largest {key}", f"MAX({quote(key)})"))
        if field == "DecimalField":
            aggregates.append((f"sum of {column.name}", f"SUM({quote(column.name)})"))
    return aggregates


def find_differences(expected: Measures, actual: Measures) -> list[str]:
    """Return a phrase for each table or number that differs."""
    differences = [f"{table} is missing" for table in sorted(expected.keys() - actual.keys())]
    differences += [f"{table} is unexpected" for table in sorted(actual.keys() - expected.keys())]
    for table in sorted(expected.keys() & actual.keys()):
        for name in sorted(expected[table].keys() | actual[table].keys()):
            before, after = expected[table].get(name), actual[table].get(name)
            if before != after:
                differences.append(f"{table}: {name} is {after}, not {before}")
    return differences


def count_rows(measures: Measures) -> int:
    return sum(int(table["rows"] or 0) for table in measures.values())
