"""Migrations that a database still lacks."""

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from techmarket.diagnosis import MIGRATE, place
from techmarket.errors import NotMigrated
from techmarket.routers import find_database


def count_pending_migrations(alias: str) -> int:
    """Return the number of unapplied migrations of the apps whose tables belong in this database."""
    executor = MigrationExecutor(connections[alias])
    leaves = executor.loader.graph.leaf_nodes()
    apps = {label for label, _ in leaves if find_database(label) == alias}
    return sum(1 for migration, _ in executor.migration_plan(leaves) if migration.app_label in apps)


def require_migrations(alias: str) -> None:
    """Raises NotMigrated if the database lacks a migration."""
    if count := count_pending_migrations(alias):
        raise NotMigrated(f"{place(alias)} lacks {count} migration{'' if count == 1 else 's'}. {MIGRATE}")
