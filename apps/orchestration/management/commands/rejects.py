"""manage.py rejects: list and export the rejects that stand, read their rows again, accept them."""

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import QuerySet
from rich.table import Column, Table

from apps.audit.actor import os_user
from apps.etl.tables import SOURCES
from apps.etl.transform.rules import RULES
from apps.orchestration.management.commands.run_etl import check_reason, read_orders
from apps.orchestration.models import RejectState, StandingReject
from apps.orchestration.recent_runs import open_rejects
from apps.orchestration.standing import COLUMNS, accept, find_orders, to_cells
from apps.orchestration.terminal import console
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.errors import Usage
from techmarket.formats import format_count, format_uah
from techmarket.spreadsheets import write_csv

SHOWN = 50
TABLES = sorted({source.table for source in SOURCES.values()})
CHUNK_ROWS = 2_000  # fetched at a time by the export


class Command(BaseCommand):
    help = (
        "List the rejects that stand: one for each source row and rule, with the UAH that the warehouse lacks because of it. "
        "Exit codes: 0 done, 1 failed, 2 usage, 3 another run is active, 4 configuration wrong or a dependency unreachable."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--state", choices=RejectState.values, default=RejectState.OPEN, help="default: open")
        parser.add_argument("--table", choices=TABLES, metavar="TABLE", help="only rejects of this source table")
        parser.add_argument("--rule", choices=sorted(RULES), metavar="RULE", help="only rejects of this rule")
        parser.add_argument("--replay", action="store_true", help="read the orders of the open rejects again, and nothing else")
        parser.add_argument(
            "--accept", nargs="+", type=whole_number(1, 2**63 - 1), metavar="N", help="accept the rejects with these numbers"
        )
        parser.add_argument("--reason", default="", help="why, for --accept")
        output = parser.add_mutually_exclusive_group()
        output.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
        output.add_argument("--csv", metavar="PATH", help="write them to this file as CSV; -: to stdout, and nothing else")

    def handle(self, **options: Any) -> None:
        if bool(options["accept"]) != bool(options["reason"].strip()):
            raise Usage("Give --accept together with --reason: who reads it later wants to know why.")
        check_reason(options["reason"])
        if options["accept"]:
            return self.accept(options["accept"], options["reason"].strip())
        selected = select(options)
        if options["replay"]:
            self.replay(selected)
        if options["json"]:
            self.stdout.write(json.dumps(document(selected), ensure_ascii=False, default=str))
        elif options["csv"] is not None:
            export(selected, options["csv"])
        else:
            show(selected, options["state"])
        return None

    def accept(self, numbers: list[int], reason: str) -> None:
        accepted = accept(numbers, os_user(), reason)
        missing = sorted(set(numbers) - set(accepted))
        if missing:
            stop(f"There is no open reject {missing[0]}. `manage.py rejects` lists them.", ExitCode.USAGE)
        self.stdout.write(f"{format_count(len(accepted))} accepted. They are open again once their content changes.")

    def replay(self, selected: "QuerySet[StandingReject]") -> None:
        """Read the orders of the rejects again, and the dimensions that have changed."""
        if selected.exists():
            read_orders(find_orders(selected), "replay of rejects")


def select(options: dict[str, Any]) -> "QuerySet[StandingReject]":
    given = {name: options[name] for name in ("state", "table", "rule") if options[name]}
    return StandingReject.objects.filter(**given).order_by("table", "rule", "pk")


def show(selected: "QuerySet[StandingReject]", state: str) -> None:
    screen, count = console(), selected.count()
    table = Table(
        Column("number", justify="right"), "row", "rule", Column("UAH", justify="right"), "first seen", "runs", header_style="bold"
    )
    for reject in selected.defer("raw")[:SHOWN]:
        lacking = "" if reject.amount is None else format_uah(reject.amount)
        table.add_row(str(reject.pk), str(reject), reject.reason, lacking, f"{reject.first_seen:%Y-%m-%d %H:%M}", str(reject.runs))
    if count:
        screen.print(table)
    if count > SHOWN:
        screen.print(f"and {format_count(count - SHOWN)} more; all are in --json")
    opened = open_rejects()
    net, paid = format_uah(opened.net), format_uah(opened.paid)
    lacks = f"the warehouse lacks {net} UAH of net revenue and {paid} UAH of payments"
    screen.print(f"{format_count(count)} {state}. Open in all: {format_count(opened.count)}; {lacks}.")


def export(selected: "QuerySet[StandingReject]", target: str) -> None:
    """Write the rejects as CSV, without their raw content. Raises Usage where the file cannot be written."""
    with closing(selected.defer("raw").iterator(chunk_size=CHUNK_ROWS)) as rejects:  # type: ignore[type-var]  # a generator
        encoded = (line.encode() for line in write_csv(COLUMNS, map(to_cells, rejects)))  # whatever the terminal's encoding is
        if target == "-":
            sys.stdout.buffer.writelines(encoded)
        else:
            write_file(Path(target), encoded)


def write_file(path: Path, lines: Iterable[bytes]) -> None:
    try:
        with path.open("wb") as file:
            file.writelines(lines)
    except OSError as error:
        raise Usage(f"--csv: {path} cannot be written: {error.strerror}. Choose another file.") from None


def document(selected: "QuerySet[StandingReject]") -> list[dict[str, Any]]:
    names = ("pk", "table", "row_id", "rule", "state", "slice_id", "amount", "first_seen", "last_seen", "first_run", "last_run", "runs")
    return [{name: getattr(reject, name) for name in names} | {"reason": reject.reason} for reject in selected.defer("raw")]
