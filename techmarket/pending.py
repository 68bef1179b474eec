"""Which migrations a database still lacks, and whether it is ours to migrate."""

from contextlib import closing

import django.db
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from techmarket.routers import find_database


def count_pending_migrations(alias: str, connection: BaseDatabaseWrapper | None = None) -> int:
    """Return the number of unapplied migrations of the apps whose tables belong in this database."""
    executor = MigrationExecutor(connection or connections[alias])
    leaves = executor.loader.graph.leaf_nodes()
    apps = {label for label, _ in leaves if find_database(label) == alias}
    return sum(1 for migration, _ in executor.migration_plan(leaves) if migration.app_label in apps)


def is_ours(alias: str, connection: BaseDatabaseWrapper | None = None) -> bool:
    """Return True if `migrate_all` may create tables in this database.

    A source's tables belong to the shop: only an empty one, or one that migrations of ours have made, is a demo shop's.
    """
    connection = connection or connections[alias]
    if alias not in settings.SOURCES:
        return True
    tables = connection.introspection.table_names()
    if MigrationRecorder.Migration._meta.db_table not in tables:
        return not tables
    applied = MigrationRecorder(connection).applied_migrations()
    return not applied or any(label == alias for label, _ in applied)


def can_migrate(alias: str) -> bool:
    """Return True if `migrate_all` would change something there. Asks over a connection of its own: the other may be of no use now."""
    try:
        with closing(connections[alias].copy()) as connection:
            return is_ours(alias, connection) and count_pending_migrations(alias, connection) > 0
    except django.db.Error:
        return False
