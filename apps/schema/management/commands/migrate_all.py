"""manage.py migrate_all: the tables of all six databases."""

import time
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandParser
from django.db import connections

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.etl.preconditions import check_server
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.diagnosis import diagnosed, place
from techmarket.errors import Transient, Unreachable
from techmarket.migrations import require_own_schema
from techmarket.pending import count_pending_migrations, is_ours


class Command(BaseCommand):
    help = "Migrate the control database, the warehouse and the demo shop's sources; wait for servers that are still starting."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wait", type=whole_number(0, 3600), default=30, metavar="SECONDS", help="how long to wait for the servers (default 30)"
        )

    def handle(self, **options: Any) -> None:
        deadline = time.monotonic() + options["wait"]
        applied: dict[str, str] = {}
        for alias in settings.PRIMARIES:
            with diagnosed(alias):
                wait_for_database(alias, deadline)
                done = migrate(alias)
            if done.endswith("applied"):
                applied[alias] = done
            if options["verbosity"]:
                self.stdout.write(f"{place(alias)}: {done}")
        if applied:
            record_command(Deed.DATABASES_MIGRATED, applied)


def migrate(alias: str) -> str:
    """Apply what is pending and return what was done. A shop's own tables are left alone: they belong to whoever runs the shop."""
    if not is_ours(alias):
        return "left unchanged: its tables are not TechMarket's"
    check_server(alias)
    require_own_schema(alias)
    count = count_pending_migrations(alias)
    call_command("migrate", database=alias, verbosity=0, interactive=False, skip_checks=True)
    return f"{count} migration{'' if count == 1 else 's'} applied" if count else "nothing to do"


def wait_for_database(alias: str, deadline: float) -> None:
    """Wait until the database accepts a connection; `deadline` is a time of time.monotonic().

    Raises Unreachable or Transient at the deadline, and at once where the server refuses the user or has no such database.
    """
    while True:
        try:
            with diagnosed(alias):
                connections[alias].ensure_connection()
            return
        except (Unreachable, Transient):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
