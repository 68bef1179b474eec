"""manage.py migrate: Django's, for one database and the apps that live there."""

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate

from apps.schema.autodetector import Autodetector


class Command(migrate.Command):
    autodetector = Autodetector

    def handle(self, *args: Any, **options: Any) -> None:
        """A service's database and the warehouse each hold one app, whose label is the alias: the other 39 migrations are not for them."""
        alias = options["database"]
        if options["app_label"] is None and alias in settings.DATABASES and alias != "default":
            options |= {"app_label": alias, "run_syncdb": False}
        super().handle(*args, **options)
