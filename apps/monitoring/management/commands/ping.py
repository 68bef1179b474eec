"""manage.py ping: ask every part, with details."""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from rich.markup import escape
from rich.table import Column, Table

from apps.monitoring.probes import Answer, Use, ask_probes, probes_for
from apps.orchestration.terminal import console
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode

DEADLINE_S = 12.0  # for all parts together
# /readyz and the metrics call the control database "control"; `ping` shows the databases by their aliases.
SHOWN_NAMES = {"control": "default"}


class Command(BaseCommand):
    help = (
        "Ask every database, the broker, the workers and beat, and show their versions, latency, tables and rights, and when the workers "
        "last did what beat asks for. What cannot be used is explained on stderr, and so are wrong clocks and what a run would warn of. "
        "Exit codes: 0 everything can be used, 4 something is unreachable or not ready."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--databases", action="store_true", help="ask only the databases, where no workers run")

    def handle(self, **options: Any) -> None:
        probes = [probe for probe in probes_for(Use.PING) if probe.alias or not options["databases"]]
        answers = ask_probes(probes, DEADLINE_S, detailed=True)
        troubles = [answer.trouble for answer in answers if answer.trouble]
        if options["json"]:
            document = {"well": not troubles, "parts": [describe(answer) for answer in answers]}
            self.stdout.write(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            console().print(build_table(answers))
        for line in [*troubles, *(warning for answer in answers for warning in answer.warnings)]:
            print(" ".join(line.split()), file=sys.stderr)
        if troubles:
            sys.exit(ExitCode.CONFIGURATION)


def describe(answer: Answer) -> dict[str, Any]:
    """Return an answer as a part of the JSON document."""
    part = asdict(answer) | {"name": SHOWN_NAMES.get(answer.name, answer.name)}
    del part["kind"]
    return part


def build_table(answers: list[Answer]) -> Table:
    shown = any(answer.encryption for answer in answers)  # files have no connection that could be encrypted
    tls = ["TLS"] * shown
    table = Table("part", "where", "what", *tls, Column("ms", justify="right"), "tables", "rights", "", header_style="bold")
    for answer in answers:
        tables = {None: "", True: "migrated", False: "[red]not ready[/red]"}[answer.migrated]
        where = answer.place.partition(" (")[2].removesuffix(")") or answer.place
        latency = "" if answer.latency_ms is None else f"{answer.latency_ms:.1f}"
        state = "[red]trouble[/red]" if answer.trouble else "[green]well[/green]"
        name = SHOWN_NAMES.get(answer.name, answer.name)
        encryption = [answer.encryption.removeprefix("TLSv")] * shown
        table.add_row(name, escape(where), answer.version, *encryption, latency, tables, answer.rights, state)
    return table
