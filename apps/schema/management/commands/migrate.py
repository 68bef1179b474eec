"""manage.py migrate: Django's command, for the apps that belong to the database."""

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate

from apps.schema.autodetector import Autodetector


class Command(migrate.Command):
    autodetector = Autodetector

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate only the app whose label is the alias in a source or the warehouse: the other 39 migrations do not belong there."""
        alias = options["database"]
        if options["app_label"] is None and alias in settings.PRIMARIES and alias != "default":
            options |= {"app_label": alias, "run_syncdb": False}
        super().handle(*args, **options)
