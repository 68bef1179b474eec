"""manage.py restore: restore a backup into empty databases."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.backups import folders
from apps.backups.description import describe_backups
from apps.backups.manifest import Signature
from apps.backups.restore import (
    Backup,
    RefusedObjects,
    RunActive,
    Trust,
    check_backup,
    describe_replaced,
    join_refused,
    refuse_active_run,
    refuse_used_databases,
    restore_backup,
    try_backup,
)
from apps.backups.stores.base import join_names
from apps.backups.terminal import print_manifest, show_progress
from apps.backups.trust_arguments import add_trust_arguments, read_trust, record_acceptance
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop
from techmarket.diagnosis import MIGRATE, diagnosed
from techmarket.errors import BackupDamaged, Usage
from techmarket.pending import count_pending_migrations


class Command(BaseCommand):
    help = (
        "Restore a backup into empty databases; migrated ones count as empty, databases with rows are refused. "
        "Exit codes: 0 done, 1 failed, or the backup is damaged or not signed, 2 wrong usage, 3 skipped because a run is active, "
        "4 a database is not empty or does not answer, or a client program or the private key is missing, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("backup", nargs="?", metavar="NAME", help="name of a backup in BACKUP_DIR, or a path")
        parser.add_argument("--list", action="store_true", help="read and list all backups, or NAME, and restore none")
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            metavar="ALIAS",
            choices=settings.PRIMARIES,
            help="restore only this database; repeatable",
        )
        parser.add_argument("--dry-run", action="store_true", help="check that the backup can be restored; change nothing")
        add_trust_arguments(parser)

    def handle(self, **options: Any) -> None:
        if options["list"]:
            return self.list_backups(options)
        if options["backup"] is None:
            raise Usage("Which backup? Name it; `manage.py restore --list` shows what there is.")
        trust = read_trust(options)
        backup = check_backup(folders.find_backup(settings.BACKUP_DIR, options["backup"]), trust, options["only"])
        try:
            refuse_active_run()
        except RunActive as error:
            stop(str(error), ExitCode.SKIPPED)
        refuse_used_databases(backup.manifest)
        record_acceptance(backup, trust)
        if options["dry_run"]:
            return self.try_restore(backup)
        return self.restore(backup, trust, options["verbosity"])

    def list_backups(self, options: dict[str, Any]) -> None:
        """Print each backup, the newest first, and end with an error if one cannot be trusted."""
        if options["only"] or options["dry_run"]:
            raise Usage("--list restores nothing. Remove --only and --dry-run.")
        name, top = options["backup"], settings.BACKUP_DIR
        backups = folders.list_folders(top)[::-1] if name is None else [folders.find_backup(top, name)]
        refused = []
        for folder, lines, is_whole in describe_backups(backups):
            self.stdout.write("\n    ".join(lines))
            refused += [] if is_whole else [folder]
        if not backups:
            self.stdout.write(f"There are no backups in {top}.")
        if refused:
            raise BackupDamaged(f"{len(refused)} of {len(backups)} backups are refused: {join_names(refused)}. Choose another one.")

    def try_restore(self, backup: Backup) -> None:
        print_manifest(backup.manifest)
        with show_progress("try") as progress:
            refused, untried = try_backup(backup, progress)
        if refused:
            raise RefusedObjects(f"{join_refused(refused)}. {backup.name} is complete; without that its tables alone would be restored.")
        for line in describe_replaced(backup.manifest):
            self.stdout.write(line)
        if untried:
            self.stderr.write(f"{untried[0]} Whether the server takes the dump was not tried.")
            return self.stdout.write(f"{backup.name} is complete.")
        return self.stdout.write(f"{backup.name} is complete and can be restored: its structure was, in throwaway databases.")

    def restore(self, backup: Backup, trust: Trust, verbosity: int) -> None:
        with show_progress("restore") as progress:
            missing_roles, refused = restore_backup(backup, progress)
        manifest = backup.manifest
        restored = {"backup": backup.name, "databases": sorted(manifest.databases), "signature": manifest.signature}
        record_command(Deed.BACKUP_RESTORED, restored, reason=trust.reason if manifest.signature != Signature.VALID else "")
        if verbosity:
            print_manifest(manifest)
            self.stdout.write(f"Restored: {backup.name}, equal to its manifest.")
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
                f"{join_refused(refused)}. All tables of {backup.name} are restored; create the rest by hand from the end of its dump."
            )
