"""Drops the KPI views before the warehouse's tables are migrated and creates them afterwards.

They are not part of a migration: SQLite rebuilds a table to alter it, and PostgreSQL alters no column's type, while a view reads it.
A load that swaps the partition of fact_sales leaves them as they are.
"""

from typing import Any

from django.apps import AppConfig
from django.db import connections, transaction

from apps.warehouse.facts import FactSales
from apps.warehouse.kpi_sql import VIEWS, View
from apps.warehouse.own_schema import fix_schema


def drop_views(sender: AppConfig, using: str, plan: list[Any], **kwargs: Any) -> None:
    """Before a migration of the warehouse's tables. A migrate with nothing to do leaves the views to those who are reading them."""
    if using != sender.label or all(migration.app_label != sender.label for migration, _ in plan):
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        fix_schema(cursor)
        for view in VIEWS:
            cursor.execute(f"DROP VIEW IF EXISTS {view.name}")


def create_views(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """After every migrate: replace the views that are not as declared. A needless replacement could wait for a load or a reader."""
    if using != sender.label:
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        fix_schema(cursor)
        if FactSales._meta.db_table not in cursor.db.introspection.table_names(cursor):
            return  # migrated back to nothing
        for view in VIEWS:
            if not is_current(cursor, view):
                replace_view(cursor, view)


def replace_view(cursor: Any, view: View) -> None:
    cursor.execute(f"DROP VIEW IF EXISTS {view.name}")
    cursor.execute(view.create)
    if cursor.db.vendor == "postgresql":
        for statement in view.comments():
            cursor.execute(statement)


def is_current(cursor: Any, view: View) -> bool:
    """Return True if the database has the view with this query and, on PostgreSQL, these comments."""
    if cursor.db.vendor == "postgresql":
        return read_comments(cursor, view.name) == {"": view.comment} | dict(view.columns) and has_same_query(cursor, view)
    cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = %s", [view.name])
    return bool(cursor.fetchone() == (view.create,))


def read_comments(cursor: Any, view: str) -> dict[str, str | None]:
    """Return the comments by column, the view's own under an empty name; nothing where there is no such view."""
    cursor.execute(
        "SELECT '', obj_description(to_regclass(%s), 'pg_class') UNION ALL "
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [view, view],
    )
    return dict(cursor.fetchall())


def has_same_query(cursor: Any, view: View) -> bool:
    """Return True if PostgreSQL reads both queries alike: it keeps a parsed one, which only a view of the wanted query compares with."""
    cursor.execute(f"CREATE TEMPORARY VIEW wanted_view AS {view.query}")
    cursor.execute("SELECT pg_get_viewdef('pg_temp.wanted_view'::regclass) = pg_get_viewdef(to_regclass(%s))", [view.name])
    (same,) = cursor.fetchone()
    cursor.execute("DROP VIEW pg_temp.wanted_view")
    return bool(same)
