"""Check before a run reads anything: databases answer, sources have the columns that tables.py declares, the warehouse takes writes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.apps import apps
from django.db import connections, transaction

from apps.etl.declarations import Kind, Source
from apps.etl.interrupts import interruptible, kill_query
from apps.etl.tables import SOURCES
from techmarket.diagnosis import diagnosed, place
from techmarket.errors import ReadOnly, SchemaDrift
from techmarket.messages import message

# Accepted column types by kind, by their first word in MySQL, MariaDB and SQLite.
TYPES = {
    Kind.INTEGER: ("bigint", "int", "integer", "mediumint", "smallint", "tinyint"),
    Kind.FLAG: ("tinyint", "bool", "boolean", "bit", "smallint", "int"),
    Kind.MONEY: ("decimal(12,2)", "decimal"),
    Kind.INSTANT: ("datetime", "timestamp"),
    Kind.DATE: ("date",),
    Kind.TEXT: ("varchar", "char", "text", "tinytext", "mediumtext", "longtext", "enum"),
}
EXACT_MONEY = "decimal(12,2)"


def preflight() -> None:
    """Check all sources and the warehouse. Raises Misconfigured with the cause and the next step."""
    for source in SOURCES.values():
        check_source(source)
    check_warehouse()


def check_source(source: Source) -> None:
    with diagnosed(source.alias), connections[source.alias].cursor() as cursor, interruptible(stopper(cursor)):
        # A query on the table itself: a missing grant, table or column each raises an error of its own.
        cursor.execute(f"SELECT {', '.join(column.name for column in source.columns)} FROM {source.table} WHERE 1 = 0")
        types = column_types(cursor, source.table)
    for column in source.columns:
        found = types[column.name]
        if not fits(found, column.kind, cursor.db.vendor):
            where = f"{source.table}.{column.name}"
            raise SchemaDrift(
                message("database.other_type", place=place(source.alias), column=where, found=found, expected=TYPES[column.kind][0])
            )


def stopper(cursor: Any) -> Callable[[], None]:
    """Return how to stop the cursor's query: the table may be locked, and a cancel must not wait for that."""
    if cursor.db.vendor == "mysql":
        return partial(kill_query, cursor.db.alias, cursor.db.connection.thread_id())
    return partial(cursor.db.connection.interrupt)


def column_types(cursor: Any, table: str) -> Mapping[str, str]:
    if cursor.db.vendor == "sqlite":
        cursor.execute(f"PRAGMA table_info({table})")
        return {row[1].lower(): row[2].lower() for row in cursor.fetchall()}
    cursor.execute(
        "SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s", [table]
    )
    return {row[0].lower(): (row[1].decode() if isinstance(row[1], bytes) else row[1]).lower() for row in cursor.fetchall()}


def fits(found: str, kind: Kind, vendor: str) -> bool:
    if kind is Kind.MONEY and vendor == "mysql":  # read as whole kopiykas: any other scale would be another amount
        return found == EXACT_MONEY
    return found.split("(")[0].split()[0] in {name.split("(")[0] for name in TYPES[kind]}


def check_warehouse() -> None:
    with diagnosed("dwh"), transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        if cursor.db.vendor == "postgresql":
            cursor.execute("SET LOCAL lock_timeout = '5s'")  # a table may be locked by DDL
        for model in apps.get_app_config("dwh").get_models():
            columns = ", ".join(str(field.column) for field in model._meta.local_concrete_fields)
            cursor.execute(f"SELECT {columns} FROM {model._meta.db_table} WHERE 1 = 0")
        if cursor.db.vendor == "postgresql":
            cursor.execute("SHOW transaction_read_only")
            if cursor.fetchone()[0] == "on":
                raise ReadOnly(message("database.read_only", place=place("dwh"), variable="DWH_URL"))
