"""Migrations that a database still lacks."""

from techmarket.diagnosis import MIGRATE, place
from techmarket.errors import NotMigrated
from techmarket.pending import count_pending_migrations


def require_migrations(alias: str) -> None:
    """Raises NotMigrated if the database lacks a migration."""
    if count := count_pending_migrations(alias):
        raise NotMigrated(f"{place(alias)} lacks {count} migration{'' if count == 1 else 's'}. {MIGRATE}")
