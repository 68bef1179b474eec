"""manage.py ping: whether every part answers."""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from rich.markup import escape
from rich.table import Column, Table

from apps.monitoring.pinging import Answer, ask_all
from apps.orchestration.terminal import console
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode


class Command(BaseCommand):
    help = (
        "Ask every database, the broker, the workers and beat: version, latency, tables, rights. What does not answer is told on stderr. "
        "Exit codes: 0 all is well, 4 something is unreachable or not ready."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
        parser.add_argument("--databases", action="store_true", help="only the databases, for who has no workers")

    def handle(self, **options: Any) -> None:
        answers = ask_all(others=not options["databases"])
        troubles = [answer.trouble for answer in answers if answer.trouble]
        if options["json"]:
            document = {"well": not troubles, "parts": [asdict(answer) for answer in answers]}
            self.stdout.write(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            console().print(table(answers))
        for trouble in troubles:
            print(" ".join(trouble.split()), file=sys.stderr)
        if troubles:
            sys.exit(ExitCode.CONFIGURATION)


def table(answers: list[Answer]) -> Table:
    shown = Table("part", "where", "what", Column("ms", justify="right"), "tables", "rights", "", header_style="bold")
    for answer in answers:
        tables = {None: "", True: "migrated", False: "[red]not ready[/red]"}[answer.migrated]
        where = answer.place.partition(" (")[2].removesuffix(")") or answer.place
        speed = "" if answer.latency_ms is None else f"{answer.latency_ms:.1f}"
        well = "[red]trouble[/red]" if answer.trouble else "[green]well[/green]"
        shown.add_row(answer.name, escape(where), answer.version, speed, tables, answer.rights, well)
    return shown
