"""manage.py backup: dump every database into one folder, or verify a backup."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.backups import folders
from apps.backups.backup import make_backup
from apps.backups.restore import RefusedObjects, Trust, check_backup, join_refused, refuse_missing_key, verify_backup
from apps.backups.terminal import print_manifest, show_progress
from apps.backups.trust_arguments import add_trust_arguments, read_trust, record_acceptance
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.errors import BackupDamaged, Usage

NEW_BACKUP = object()  # of no name that can be given
DIFFERENCES_SHOWN = 5


class Command(BaseCommand):
    help = (
        "Dump all databases into a new folder with a manifest, then remove the oldest backups. "
        "Exit codes: 0 done, 1 failed, or --verify found a difference or refused the backup, 2 wrong usage, "
        "3 skipped because another backup is in progress, "
        "4 a server does not answer, a client program or a private key is missing, or the folder cannot be written, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", metavar="FOLDER", help="folder for backups (default: BACKUP_DIR)")
        parser.add_argument("--keep", type=whole_number(1, 10_000), metavar="N", help="number of backups to keep (default: BACKUP_KEEP)")
        parser.add_argument(
            "--verify",
            nargs="?",
            const=NEW_BACKUP,
            metavar="NAME",
            help="restore the new backup into throwaway databases and compare; with NAME, verify that backup and make none",
        )
        add_trust_arguments(parser)

    def handle(self, **options: Any) -> None:
        top = Path(options["to"]).absolute() if options["to"] else settings.BACKUP_DIR
        if options["verify"] not in (None, NEW_BACKUP):
            if options["keep"]:
                raise Usage("--keep applies to a new backup. Remove it, or the name after --verify.")
            return self.verify(folders.find_backup(top, options["verify"]), read_trust(options), options["verbosity"])
        if options["verify"] is NEW_BACKUP and settings.BACKUP_RECIPIENT:
            refuse_missing_key(read_trust(options))
        try:
            with folders.lock_folder(top):
                self.make(top, options)
        except folders.BackupInProgress as error:
            stop(str(error), ExitCode.SKIPPED)
        return None

    def make(self, top: Path, options: dict[str, Any]) -> None:
        with show_progress("dump") as progress:
            folder, manifest, notes = make_backup(top, progress)
        record_command(
            Deed.BACKUP_MADE, {"backup": folder.name, "databases": sorted(manifest.databases), "recipients": manifest.recipients}
        )
        if options["verbosity"]:
            print_manifest(manifest)
            self.stdout.write(f"Backup: {folder}")
        for note in notes:
            self.stderr.write(note)
        if options["verify"] is not None:
            self.verify(folder, read_trust(options), options["verbosity"])
        removed = folders.remove_oldest(top, options["keep"] or settings.BACKUP_KEEP)
        if removed and options["verbosity"]:
            self.stdout.write(f"Removed: {', '.join(removed)}")

    def verify(self, folder: Path, trust: Trust, verbosity: int) -> None:
        backup = check_backup(folder, trust)
        record_acceptance(backup, trust)
        with show_progress("verify") as progress:
            differences, refused = verify_backup(backup, progress)
        if differences:
            shown, more = differences[:DIFFERENCES_SHOWN], len(differences) - DIFFERENCES_SHOWN
            rest = f"; and {more} more" if more > 0 else ""
            raise BackupDamaged(f"{folder.name}: the restored databases differ from the manifest: {'; '.join(shown)}{rest}.")
        if refused:
            raise RefusedObjects(f"{join_refused(refused)}. {folder.name} is complete, and its tables were restored and are equal.")
        if not verbosity:
            return
        databases = backup.manifest.databases
        tables = sum(len(dump.tables) for dump in databases.values())
        self.stdout.write(f"Verified: {folder.name} was restored and is equal: {tables} tables in {len(databases)} databases.")
