"""manage.py export_schema: the data dictionary, DBML, diagrams and SQL, generated from the models."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.schema.files import find_stale_files, write_stale_files
from techmarket.commands import Command as BaseCommand
from techmarket.errors import Terminal


class Command(BaseCommand):
    help = "Generate docs/DATA_DICTIONARY.md, docs/db, docs/er, docs/images/er-*.svg and deploy/*/*.sql from the models."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")

    def handle(self, **options: Any) -> None:
        if options["check"]:
            refuse_stale_files(settings.BASE_DIR)
            return
        try:
            written = write_stale_files(settings.BASE_DIR)
        except OSError as error:
            raise Terminal(f"{error.filename} cannot be written: {error.strerror}.") from None
        for path in written or ["Nothing to do: all files are up to date."]:
            self.stdout.write(path)


def refuse_stale_files(folder: Path) -> None:
    if stale := find_stale_files(folder):
        raise Terminal(f"Out of date: {', '.join(stale)}. Run `manage.py export_schema` and commit the files.")
