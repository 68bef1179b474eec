"""Empty the test databases after a transactional test: only the tables that hold rows, and without another post_migrate.

Django's own flush truncates every table of six databases and recreates content types, permissions and groups each time. Here those
stay and are compared with what migrate created; only a test that changed them gets Django's own flush.
"""

import time
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import IntegrityError, OperationalError, connections, transaction
from django.test import TransactionTestCase

from apps.audit.chain import make_first_head
from apps.audit.models import Head
from apps.audit.protection import protect

MADE_BY_MIGRATE = (ContentType, Permission, Group, Group.permissions.through)
ATTEMPTS = 10
# Entries cannot be deleted before their protection is.
AUDIT = "audit_entry"
UNPROTECT = {
    "postgresql": ["GRANT DELETE ON audit_entry TO CURRENT_USER", "ALTER TABLE audit_entry DISABLE TRIGGER USER"],
    "sqlite": ["DROP TRIGGER IF EXISTS audit_entry_changed", "DROP TRIGGER IF EXISTS audit_entry_deleted"],
}
Rows = list[list[tuple[Any, ...]]]
tables: dict[str, list[str]] = {}
migrated: Rows = []


def install() -> None:
    """Empty the databases this way after each test that has `transaction=True` or a live server."""
    TransactionTestCase._fixture_teardown = empty_databases


def start() -> None:
    """Delete what migrate created in other tables (the schedules), so that all tests start alike, and remember the rest."""
    for alias in connections:
        if connections[alias].settings_dict["NAME"] == connections[alias].creation._get_test_db_name():
            delete_rows(alias)
            if alias == "default":
                migrated[:] = rows_made_by_migrate()


def empty_databases(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):
        delete_rows(alias)
        if alias == "default" and rows_made_by_migrate() != migrated:
            unprotect()
            call_command("flush", verbosity=0, interactive=False, database=alias, reset_sequences=False)
            protect()
            delete_rows(alias)  # what was recorded of the groups
            migrated[:] = rows_made_by_migrate()


def unprotect() -> None:
    with connections["default"].cursor() as cursor:
        for statement in UNPROTECT[connections["default"].vendor]:
            cursor.execute(statement)


def delete_rows(alias: str) -> None:
    """Delete every row of this database except those that migrate creates.

    A worker that a test started may still insert a row that refers to a deleted one: hence the retries.
    """
    if alias not in tables:
        found = connections[alias].introspection.django_table_names(only_existing=True, include_views=False)
        tables[alias] = sorted(set(found) - {model._meta.db_table for model in (*MADE_BY_MIGRATE, Head)})
    for attempt in range(ATTEMPTS):
        try:
            with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
                if alias == "dwh" and connections[alias].vendor == "postgresql":
                    drop_leftovers(cursor)
                filled = filled_tables(alias)
                for statement in delete_statements(alias, filled):
                    cursor.execute(statement)
                if AUDIT in filled:
                    protect()
                    make_first_head()
            return
        except (IntegrityError, OperationalError):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.2)


def drop_leftovers(cursor: Any) -> None:
    """Drop what runs have prepared and not published, and partitions that a test has detached: they refer to the dimensions."""
    cursor.execute(
        "SELECT c.oid::regclass::text FROM pg_class AS c WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND relname ~ '^(fact_sales|etl_order|etl_prepared)_.*[0-9]'"
    )
    for (table,) in cursor.fetchall():
        cursor.execute(f"DROP TABLE {table}")


def delete_statements(alias: str, filled: list[str]) -> list[str]:
    operations = connections[alias].ops
    before = UNPROTECT[connections[alias].vendor] if AUDIT in filled else []
    if connections[alias].vendor == "postgresql":  # TRUNCATE takes longer, and waits for every open reader
        return before + [f"DELETE FROM {operations.quote_name(table)}" for table in filled]
    return before + list(operations.sql_flush(no_style(), filled))


def filled_tables(alias: str) -> list[str]:
    """Return the tables that hold rows, found in one query."""
    quote = connections[alias].ops.quote_name
    queries = (f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {quote(table)})" for table in tables[alias])
    with connections[alias].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(queries))
        return [name for (name,) in cursor.fetchall()]


def rows_made_by_migrate() -> Rows:
    return [sorted(model._base_manager.using("default").values_list()) for model in MADE_BY_MIGRATE]
