"""How rows reach the four databases: in chunks, in primary-key order, many rows to a statement."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import NoneType
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from apps.demo import instants

ALIASES = ["catalog_db", "orders_db", "auth_db", "payments_db"]
SEPARATOR = "\x1f"  # in no text of ours
QUOTED_SEPARATOR = f"'{SEPARATOR}'"
STATEMENT = 1_000  # rows: 100 to 200 kB
CHUNK = 5_000  # rows of people and products, or orders with all that belongs to them; one transaction each
Columns = Mapping[str, Sequence[Any]]


def models(alias: str) -> list[type[Model]]:
    return list(apps.get_app_config(alias).get_models())


def insert(model: type[Model], columns: Columns) -> int:
    """Writes one chunk and says how many rows it had."""
    rows = len(columns["id"])
    connection = connections[model._meta.app_label]
    into = f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES "  # noqa: S608  our own names
    if rows and connection.vendor == "mysql":
        insert_literals(connection, into, columns)
    elif rows:
        with connection.cursor() as cursor:
            cursor.executemany(f"{into} ({', '.join(['%s'] * len(columns))})", list(zip(*columns.values(), strict=True)))
    return rows


def insert_literals(connection: BaseDatabaseWrapper, into: str, columns: Columns) -> None:
    """Rows spelled out a column at a time: 50 000 orders take 4.5 s with it and 8.6 s with the driver's executemany.

    The driver's own cursor, because Django's keeps the text of 9 000 statements where DEBUG is on.
    """
    connection.ensure_connection()
    shape = "(" + ",".join(["%s"] * len(columns)) + ")"
    literals = [spelled(connection, values) for values in columns.values()]
    rows = [shape % row for row in zip(*literals, strict=True)]
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        for first in range(0, len(rows), STATEMENT):
            cursor.execute(into + ",".join(rows[first : first + STATEMENT]))


def spelled(connection: BaseDatabaseWrapper, values: Sequence[Any]) -> Sequence[Any]:
    """SQL literals of one column, of whole numbers, texts and None."""
    kinds = set(map(type, values))
    if str not in kinds:
        return ["NULL" if value is None else value for value in values] if NoneType in kinds else values
    quoted = quoted_texts(connection, [value for value in values if value is not None] if NoneType in kinds else values)
    if NoneType not in kinds:
        return quoted
    texts = iter(quoted)
    return ["NULL" if value is None else next(texts) for value in values]


def quoted_texts(connection: BaseDatabaseWrapper, texts: Sequence[str]) -> list[str]:
    """One call escapes them all; it leaves the separator alone."""
    escaped: str = connection.connection.escape_string(SEPARATOR.join(texts)).decode()
    return f"'{escaped.replace(SEPARATOR, QUOTED_SEPARATOR)}'".split(SEPARATOR)


def stamped(columns: Columns, created_at: instants.Instants, updated_at: instants.Instants) -> Columns:
    """With both stamps written out: left to the database they would differ from run to run."""
    return {**columns, "created_at": instants.written(created_at), "updated_at": instants.written(updated_at)}


@contextmanager
def bulk() -> Iterator[None]:
    """On MySQL, our sessions trust the generator with unique and foreign keys while it writes."""
    with ExitStack() as stack:
        for alias in ALIASES:
            stack.enter_context(trusting(connections[alias]))
        yield


@contextmanager
def trusting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor != "mysql":
        yield
        return
    set_checks(connection, 0)
    try:
        yield
    finally:
        set_checks(connection, 1)


def set_checks(connection: BaseDatabaseWrapper, on: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION unique_checks = %s, foreign_key_checks = %s", [on, on])


def empty(alias: str) -> None:
    """All rows gone and ids from 1 again: TRUNCATE on MySQL (a DELETE walks every row and its undo), DELETE on SQLite."""
    connection = connections[alias]
    tables = [model._meta.db_table for model in reversed(models(alias))]
    connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables, reset_sequences=True))
