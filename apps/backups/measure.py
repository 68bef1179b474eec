"""What a database holds, in a few numbers: enough to see that a restored one is the one that was dumped."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

INTEGERS = ("AutoField", "BigAutoField", "BigIntegerField", "IntegerField", "SmallAutoField", "SmallIntegerField")
Measure = dict[str, int | str | None]
Measures = dict[str, Measure]


def measure(connection: BaseDatabaseWrapper) -> Measures:
    """By table: its rows, the largest number of an integer key, the sum of each column of money. In the session's own transaction."""
    with connection.cursor() as cursor:
        return {table: measure_table(cursor, table) for table in tables(cursor)}


def tables(cursor: Any) -> list[str]:
    """Without views, and without partitions: their table has their rows."""
    return sorted(row.name for row in cursor.db.introspection.get_table_list(cursor) if row.type == "t")


def measure_table(cursor: Any, table: str) -> Measure:
    wanted = {"rows": "COUNT(*)"} | dict(totals(cursor, table))
    quoted = cursor.db.ops.quote_name(table)
    cursor.execute(f"SELECT {', '.join(wanted.values())} FROM {quoted}")  # noqa: S608  names come from the database itself
    rows, *others = cursor.fetchone()
    return {"rows": rows} | {name: None if value is None else str(value) for name, value in zip(list(wanted)[1:], others, strict=True)}


def totals(cursor: Any, table: str) -> list[tuple[str, str]]:
    introspection, quote = cursor.db.introspection, cursor.db.ops.quote_name
    key = introspection.get_primary_key_column(cursor, table)
    found = []
    for column in introspection.get_table_description(cursor, table):
        kind = introspection.get_field_type(column.type_code, column)
        kind = kind[0] if isinstance(kind, tuple) else kind
        if column.name == key and kind in INTEGERS:
            found.append((f"largest {key}", f"MAX({quote(key)})"))
        if kind == "DecimalField":
            found.append((f"sum of {column.name}", f"SUM({quote(column.name)})"))
    return found


def differences(wanted: Measures, found: Measures) -> list[str]:
    """One sentence for each number that is not what it should be."""
    said = [f"{table} is missing" for table in sorted(wanted.keys() - found.keys())]
    said += [f"{table} should not be there" for table in sorted(found.keys() - wanted.keys())]
    for table in sorted(wanted.keys() & found.keys()):
        for name in sorted(wanted[table].keys() | found[table].keys()):
            before, after = wanted[table].get(name), found[table].get(name)
            if before != after:
                said.append(f"{table}: {name} is {after}, not {before}")
    return said


def rows(measures: Measures) -> int:
    return sum(int(table["rows"] or 0) for table in measures.values())
