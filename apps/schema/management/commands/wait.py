"""manage.py wait: wait for the databases, as a container does before it starts its process."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.etl.preflight import check_source
from apps.etl.replicas import read_alias
from apps.etl.tables import SOURCES
from apps.schema.management.commands.migrate_all import wait_for_database
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.diagnosis import diagnosed
from techmarket.errors import NotMigrated
from techmarket.migrations import require_migrations


class Command(BaseCommand):
    help = "Wait until the control database and the warehouse answer and are migrated; with --sources, until the sources answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=whole_number(0, 3600), default=60, help="how long to wait (default 60)")
        parser.add_argument(
            "--sources",
            action="store_true",
            help="wait for the sources instead, and check that a run can read every table and column it needs",
        )

    def handle(self, **options: Any) -> None:
        deadline = time.monotonic() + options["seconds"]
        if options["sources"]:
            return wait_for_sources(deadline)
        for alias in settings.WAREHOUSE:
            with diagnosed(alias):
                wait_for_database(alias, deadline)
                wait_for_migrations(alias, deadline)
        return None


def wait_for_sources(deadline: float) -> None:
    for source in SOURCES.values():
        alias = read_alias(source.alias)
        for each in {source.alias, alias}:
            wait_for_database(each, deadline)
        check_source(source, alias)


def wait_for_migrations(alias: str, deadline: float) -> None:
    """Wait until all migrations are applied. Raises NotMigrated at the deadline."""
    while True:
        try:
            require_migrations(alias)
            return
        except NotMigrated:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
