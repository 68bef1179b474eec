"""Which database a model belongs to: an app whose label is a database alias to that one, every other app to the control database."""

from typing import Any

from django.conf import settings
from django.db.models import Model


def find_database(app_label: str) -> str:
    """Return the alias of the database that holds the app's tables."""
    return app_label if app_label in settings.DATABASES else "default"


class LabelRouter:
    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return find_database(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return find_database(one._meta.app_label) == find_database(other._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == find_database(app_label)
