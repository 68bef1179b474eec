"""What the four services have in common as Django apps."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class Service(AppConfig):
    """One service: its label is its database's alias."""

    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        post_migrate.connect(create_sqlite_triggers, sender=self)
        connection_created.connect(show_dirty_text)


def show_dirty_text(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """SQLite keeps bytes that are no text in a column of text; a page that shows such a row must not fail of it."""
    if connection.vendor == "sqlite" and connection.alias in settings.SOURCES:
        connection.connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")


# Seconds carry three decimals in SQLite's clock; the column's text has six.
TRIGGER = """
CREATE TRIGGER IF NOT EXISTS {table}_updated_at AFTER UPDATE ON {table} FOR EACH ROW WHEN NEW.updated_at IS OLD.updated_at
BEGIN UPDATE {table} SET updated_at = strftime('%Y-%m-%d %H:%M:%f000', 'now') WHERE id = NEW.id; END
"""


def create_sqlite_triggers(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """After every migrate, not in a migration: SQLite rebuilds a table to alter it, and its triggers go with the old one."""
    if connections[using].vendor != "sqlite" or using != sender.label:
        return
    with connections[using].cursor() as cursor:
        for model in sender.get_models():
            cursor.execute(TRIGGER.format(table=model._meta.db_table))
