"""manage.py restore: restore a backup into empty databases."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.backups import folders
from apps.backups.manifest import Manifest
from apps.backups.restore import (
    RefusedObjects,
    RunActive,
    check_backup,
    describe_replaced,
    join_refused,
    refuse_active_run,
    refuse_used_databases,
    restore_backup,
    try_backup,
)
from apps.backups.terminal import print_manifest, show_progress
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop
from techmarket.diagnosis import MIGRATE, diagnosed
from techmarket.pending import count_pending_migrations


class Command(BaseCommand):
    help = (
        "Restore a backup into empty databases; migrated ones count as empty, databases with rows are refused. "
        "Exit codes: 0 done, 1 failed or the backup is damaged, 2 wrong usage, 3 skipped because a run is active, "
        "4 a database is not empty or does not answer, or a client program is missing, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("backup", metavar="NAME", help="name of a backup in BACKUP_DIR, or a path")
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            metavar="ALIAS",
            choices=settings.PRIMARIES,
            help="restore only this database; repeatable",
        )
        parser.add_argument("--dry-run", action="store_true", help="check that the backup can be restored; change nothing")

    def handle(self, **options: Any) -> None:
        folder = folders.find_backup(settings.BACKUP_DIR, options["backup"])
        manifest = check_backup(folder, options["only"])
        try:
            refuse_active_run()
        except RunActive as error:
            stop(str(error), ExitCode.SKIPPED)
        refuse_used_databases(manifest)
        if options["dry_run"]:
            return self.try_restore(folder, manifest)
        return self.restore(folder, manifest, options["verbosity"])

    def try_restore(self, folder: Path, manifest: Manifest) -> None:
        print_manifest(manifest)
        with show_progress("try") as progress:
            refused, untried = try_backup(folder, manifest, progress)
        if refused:
            raise RefusedObjects(f"{join_refused(refused)}. {folder.name} is complete; without that its tables alone would be restored.")
        for line in describe_replaced(manifest):
            self.stdout.write(line)
        if untried:
            self.stderr.write(f"{untried[0]} Whether the server takes the dump was not tried.")
            return self.stdout.write(f"{folder.name} is complete.")
        return self.stdout.write(f"{folder.name} is complete and can be restored: its structure was, in throwaway databases.")

    def restore(self, folder: Path, manifest: Manifest, verbosity: int) -> None:
        with show_progress("restore") as progress:
            missing_roles, refused = restore_backup(folder, manifest, progress)
        record_command(Deed.BACKUP_RESTORED, {"backup": folder.name, "databases": sorted(manifest.databases)})
        if verbosity:
            print_manifest(manifest)
            self.stdout.write(f"Restored: {folder.name}, equal to its manifest.")
        for alias, roles in missing_roles.items():
            if roles:
                self.stderr.write(
                    f"{alias}: no rights granted to {', '.join(roles)}: the role does not exist here, or this user may not grant."
                )
        for alias in manifest.databases:
            with diagnosed(alias):
                count = count_pending_migrations(alias)
            if count:
                self.stderr.write(f"{alias} lacks {count} migrations of this version. {MIGRATE}")
        if refused:
            raise RefusedObjects(
                f"{join_refused(refused)}. All tables of {folder.name} are restored; create the rest by hand from the end of its dump."
            )
