"""manage.py version: the version of TechMarket and the commit of its code."""

import json
from typing import Any

from django.core.management.base import CommandParser

from techmarket.commands import Command as BaseCommand
from techmarket.version import code_version, package_version


class Command(BaseCommand):
    help = "Print the version of TechMarket and the commit of its code."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document: version, commit")

    def handle(self, **options: Any) -> None:
        version, commit = package_version(), code_version()
        if options["json"]:
            self.stdout.write(json.dumps({"version": version, "commit": commit}))
        else:
            self.stdout.write(f"TechMarket {version} (commit {commit or 'unknown'})")
