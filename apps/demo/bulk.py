"""Bulk writes into the four databases: in chunks, in primary-key order, many rows to a statement."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import NoneType
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from apps.demo.timestamps import Timestamps, format_timestamps

ALIASES = ["catalog_db", "orders_db", "auth_db", "payments_db"]
SEPARATOR = "\x1f"  # occurs in no generated text
QUOTED_SEPARATOR = f"'{SEPARATOR}'"
ROWS_PER_STATEMENT = 1_000  # 100 to 200 kB
CHUNK = 5_000  # people, products, or orders with their lines and payments; one transaction each
Columns = Mapping[str, Sequence[Any]]


def get_models(alias: str) -> list[type[Model]]:
    return list(apps.get_app_config(alias).get_models())


def insert_rows(model: type[Model], columns: Columns) -> int:
    """Insert one chunk, given as columns, and return its number of rows."""
    rows = len(columns["id"])
    connection = connections[model._meta.app_label]
    into = f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES "  # noqa: S608  names of models and columns
    if rows and connection.vendor == "mysql":
        insert_literals(connection, into, columns)
    elif rows:
        with connection.cursor() as cursor:
            cursor.executemany(f"{into} ({', '.join(['%s'] * len(columns))})", list(zip(*columns.values(), strict=True)))
    return rows


def insert_literals(connection: BaseDatabaseWrapper, into: str, columns: Columns) -> None:
    """Insert rows as SQL literals made a column at a time: 50 000 orders take 4.5 s, and 8.6 s with the driver's executemany.

    Uses the driver's own cursor, because Django's keeps the text of 9 000 statements where DEBUG is on.
    """
    connection.ensure_connection()
    shape = "(" + ",".join(["%s"] * len(columns)) + ")"
    literals = [to_literals(connection, values) for values in columns.values()]
    rows = [shape % row for row in zip(*literals, strict=True)]
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        for first in range(0, len(rows), ROWS_PER_STATEMENT):
            cursor.execute(into + ",".join(rows[first : first + ROWS_PER_STATEMENT]))


def to_literals(connection: BaseDatabaseWrapper, values: Sequence[Any]) -> Sequence[Any]:
    """Return the SQL literals of one column of integers, texts and None."""
    kinds = set(map(type, values))
    if str not in kinds:
        return ["NULL" if value is None else value for value in values] if NoneType in kinds else values
    quoted = quote_texts(connection, [value for value in values if value is not None] if NoneType in kinds else values)
    if NoneType not in kinds:
        return quoted
    texts = iter(quoted)
    return ["NULL" if value is None else next(texts) for value in values]


def quote_texts(connection: BaseDatabaseWrapper, texts: Sequence[str]) -> list[str]:
    """Escape all texts with one call, joined by a separator that escaping leaves alone."""
    escaped: str = connection.connection.escape_string(SEPARATOR.join(texts)).decode()
    return f"'{escaped.replace(SEPARATOR, QUOTED_SEPARATOR)}'".split(SEPARATOR)


def with_timestamps(columns: Columns, created_at: Timestamps, updated_at: Timestamps) -> Columns:
    """Add created_at and updated_at: if the database filled them in, they would differ from run to run."""
    return {**columns, "created_at": format_timestamps(created_at), "updated_at": format_timestamps(updated_at)}


@contextmanager
def unchecked_keys() -> Iterator[None]:
    """Turn off the checks of unique and foreign keys in this process's MySQL sessions: the generated rows satisfy them."""
    with ExitStack() as stack:
        for alias in ALIASES:
            stack.enter_context(_unchecked_session(connections[alias]))
        yield


@contextmanager
def _unchecked_session(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor != "mysql":
        yield
        return
    set_key_checks(connection, 0)
    try:
        yield
    finally:
        set_key_checks(connection, 1)


def set_key_checks(connection: BaseDatabaseWrapper, on: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION unique_checks = %s, foreign_key_checks = %s", [on, on])


def truncate_tables(alias: str) -> None:
    """Delete all rows and restart ids at 1: TRUNCATE on MySQL, where DELETE writes undo for every row; DELETE on SQLite."""
    connection = connections[alias]
    tables = [model._meta.db_table for model in reversed(get_models(alias))]
    connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables, reset_sequences=True))
