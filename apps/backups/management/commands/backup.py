"""manage.py backup: every database into one folder."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.backups import folders
from apps.backups.backup import make
from apps.backups.restore import check, verify
from apps.backups.terminal import progress, show
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.errors import BackupDamaged, Usage

NEW = ""
SHOWN = 5


class Command(BaseCommand):
    help = (
        "Dump all databases into a new folder with a manifest, and remove the oldest backups. "
        "Exit codes: 0 done, 1 failed or what --verify found differs, 2 usage, 3 skipped because another backup is being made, "
        "4 a server does not answer, a client program is missing or the folder cannot be written, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", metavar="FOLDER", help="where backups are kept (default: BACKUP_DIR)")
        parser.add_argument("--keep", type=whole_number(1, 10_000), metavar="N", help="how many are kept (default: BACKUP_KEEP)")
        parser.add_argument(
            "--verify",
            nargs="?",
            const=NEW,
            metavar="NAME",
            help="restore it into throwaway databases and compare; with a name, that backup, and make no new one",
        )

    def handle(self, **options: Any) -> None:
        top = Path(options["to"]).absolute() if options["to"] else settings.BACKUP_DIR
        if options["verify"]:
            if options["keep"]:
                raise Usage("--keep is for a new backup: give it without the name of one to verify.")
            return self.verify(folders.find(top, options["verify"]), options["verbosity"])
        try:
            with folders.alone(top):
                self.make(top, options)
        except folders.Busy as error:
            stop(str(error), ExitCode.SKIPPED)
        return None

    def make(self, top: Path, options: dict[str, Any]) -> None:
        with progress("dump") as listener:
            folder, written = make(top, listener)
        if options["verbosity"]:
            show(written)
            self.stdout.write(f"Backup: {folder}")
        if options["verify"] is not None:
            self.verify(folder, options["verbosity"])
        removed = folders.prune(top, options["keep"] or settings.BACKUP_KEEP)
        if removed and options["verbosity"]:
            self.stdout.write(f"Removed: {', '.join(removed)}")

    def verify(self, folder: Path, verbosity: int) -> None:
        chosen = check(folder)
        with progress("verify") as listener:
            wrong = verify(folder, chosen, listener)
        if wrong:
            more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise BackupDamaged(f"{folder.name} restored is not what its manifest says: {'; '.join(wrong[:SHOWN])}{more}.")
        if not verbosity:
            return
        tables = sum(len(dump.tables) for dump in chosen.databases.values())
        self.stdout.write(f"Verified: {folder.name} restored is equal, in {tables} tables of {len(chosen.databases)} databases.")
