"""manage.py export_schema: DBML, diagrams, SQL and the data dictionary, from the models."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.schema.files import stale, write
from techmarket.commands import Command as BaseCommand
from techmarket.errors import Terminal


class Command(BaseCommand):
    help = "Write what the models say of the tables: docs/db, docs/er, docs/images/er-*.svg, docs/DATA_DICTIONARY.md, deploy/*/*.sql."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not what would be written")

    def handle(self, **options: Any) -> None:
        if options["check"]:
            refuse_stale(settings.BASE_DIR)
            return
        try:
            written = write(settings.BASE_DIR)
        except OSError as error:
            raise Terminal(f"{error.filename} cannot be written: {error.strerror}.") from None
        for path in written or ["Nothing to do: every file is what the models say."]:
            self.stdout.write(path)


def refuse_stale(folder: Path) -> None:
    if found := stale(folder):
        raise Terminal(f"Not what the models say: {', '.join(found)}. Run `manage.py export_schema` and commit what it writes.")
