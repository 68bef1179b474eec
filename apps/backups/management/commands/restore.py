"""manage.py restore: a backup into empty databases."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.backups import folders
from apps.backups.restore import RunActive, check, refuse_active_run, refuse_used, restore
from apps.backups.terminal import progress, show
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop
from techmarket.diagnosis import MIGRATE, diagnosed
from techmarket.migrations import count_pending_migrations


class Command(BaseCommand):
    help = (
        "Restore a backup into empty databases, migrated ones included; what has rows is refused. "
        "Exit codes: 0 done, 1 failed or the backup is damaged, 2 usage, 3 skipped because a run is active, "
        "4 a database is not empty or does not answer, or a client program is missing, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("backup", metavar="NAME", help="of a folder in BACKUP_DIR, or its path")
        parser.add_argument(
            "--only", action="append", default=[], metavar="ALIAS", choices=settings.DATABASES, help="this database; repeatable"
        )
        parser.add_argument("--dry-run", action="store_true", help="look whether it could be restored, and touch nothing")

    def handle(self, **options: Any) -> None:
        folder = folders.find(settings.BACKUP_DIR, options["backup"])
        chosen = check(folder, options["only"])
        try:
            refuse_active_run()
        except RunActive as error:
            stop(str(error), ExitCode.SKIPPED)
        refuse_used(chosen)
        if options["dry_run"]:
            show(chosen)
            return self.stdout.write(f"{folder.name} is whole, and could be restored.")
        return self.restore(folder, chosen, options["verbosity"])

    def restore(self, folder: Path, chosen: Any, verbosity: int) -> None:
        with progress("restore") as listener:
            missing = restore(folder, chosen, listener)
        if verbosity:
            show(chosen)
            self.stdout.write(f"Restored: {folder.name}, equal to its manifest.")
        for alias, roles in missing.items():
            if roles:
                self.stderr.write(f"{alias}: no rights granted to {', '.join(roles)}: no such role here, or it is not ours to grant.")
        for alias in chosen.databases:
            with diagnosed(alias):
                steps = count_pending_migrations(alias)
            if steps:
                self.stderr.write(f"{alias} is older than this code by {steps} migrations. {MIGRATE}")
