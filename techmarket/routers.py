"""Where a model lives: an app whose label is a database alias lives there, every other app in the control database."""

from typing import Any

from django.conf import settings
from django.db.models import Model


def home(app_label: str) -> str:
    return app_label if app_label in settings.DATABASES else "default"


class LabelRouter:
    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return home(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return home(one._meta.app_label) == home(other._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == home(app_label)
