"""What is still to be migrated."""

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from techmarket.routers import home


def pending(alias: str) -> int:
    """Migrations of the apps that live there."""
    executor = MigrationExecutor(connections[alias])
    apps = {label for label, _ in executor.loader.graph.leaf_nodes() if home(label) == alias}
    return sum(1 for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()) if migration.app_label in apps)


def missing(count: int) -> str:
    return f"lacks {count} migration{'' if count == 1 else 's'}"
