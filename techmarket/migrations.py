"""Migrations that a database still lacks."""

from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from techmarket.diagnosis import MIGRATE, place
from techmarket.errors import Misconfigured, NotMigrated
from techmarket.messages import message
from techmarket.pending import count_pending_migrations

OTHER_SCHEMA = """
SELECT relnamespace::regnamespace::text, quote_ident(current_schema()), quote_ident(current_user), quote_ident(current_database())
FROM pg_class WHERE oid = to_regclass(%s) AND relnamespace <> quote_ident(current_schema())::regnamespace
"""


def require_migrations(alias: str) -> None:
    """Raises NotMigrated if the database lacks a migration."""
    if count := count_pending_migrations(alias):
        raise NotMigrated(f"{place(alias)} lacks {count} migration{'' if count == 1 else 's'}. {MIGRATE}")


def require_own_schema(alias: str) -> None:
    """Raises Misconfigured where a migration would create tables in another schema than the one in which it looks for applied migrations.

    With the search path `two, public` a second TechMarket would take the first one's tables in `public` for its own.
    """
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(OTHER_SCHEMA, [MigrationRecorder.Migration._meta.db_table])
        if found := cursor.fetchone():
            names = dict(zip(("found", "current", "role", "database"), found, strict=True))
            raise Misconfigured(message("database.two_schemas", place=place(alias), **names))
