"""The base of the four services as Django apps."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class Service(AppConfig):
    """One service; its label is the alias of its database."""

    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        post_migrate.connect(create_sqlite_triggers, sender=self)
        connection_created.connect(decode_invalid_text)


def decode_invalid_text(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Decode invalid UTF-8 in SQLite sources with escapes: a text column can hold any bytes, and pages that show them must not fail."""
    if connection.vendor == "sqlite" and connection.alias in settings.SOURCES:
        connection.connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")


# SQLite's clock gives three decimals of a second; the column's text has six.
TRIGGER = """
CREATE TRIGGER IF NOT EXISTS {table}_updated_at AFTER UPDATE ON {table} FOR EACH ROW WHEN NEW.updated_at IS OLD.updated_at
BEGIN UPDATE {table} SET updated_at = strftime('%Y-%m-%d %H:%M:%f000', 'now') WHERE id = NEW.id; END
"""


def create_sqlite_triggers(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Create the triggers after every migrate instead of in a migration: to alter a table SQLite rebuilds it, which drops its triggers."""
    if connections[using].vendor != "sqlite" or using != sender.label:
        return
    with connections[using].cursor() as cursor:
        for model in sender.get_models():
            cursor.execute(TRIGGER.format(table=model._meta.db_table))
