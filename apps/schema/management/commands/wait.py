"""manage.py wait: what a container does before its process starts."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.etl.preflight import check_source
from apps.etl.tables import SOURCES
from apps.schema.management.commands.migrate_all import wait_for
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.diagnosis import diagnosed
from techmarket.errors import NotMigrated
from techmarket.migrations import require_migrations


class Command(BaseCommand):
    help = "Wait until the control database and the warehouse answer and are migrated; or, with --sources, until the sources answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=whole_number(0, 3600), default=60, help="after which it is given up (default 60)")
        parser.add_argument(
            "--sources", action="store_true", help="instead for the sources, and see that a run may read all it reads there"
        )

    def handle(self, **options: Any) -> None:
        until = time.monotonic() + options["seconds"]
        if options["sources"]:
            return wait_for_sources(until)
        for alias in settings.WAREHOUSE:
            with diagnosed(alias):
                wait_for(alias, until)
                wait_for_migrations(alias, until)
        return None


def wait_for_sources(until: float) -> None:
    for source in SOURCES.values():
        wait_for(source.alias, until)
        check_source(source)


def wait_for_migrations(alias: str, until: float) -> None:
    """Raises NotMigrated when the time is up."""
    while True:
        try:
            require_migrations(alias)
            return
        except NotMigrated:
            if time.monotonic() > until:
                raise
        time.sleep(1)
