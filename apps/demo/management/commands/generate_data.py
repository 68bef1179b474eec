"""Makes the demo shop, changes it, or plants faults in it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error, connections
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from apps.demo import changes, faults, shop
from apps.demo.write import ALIASES, models
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.diagnosis import MIGRATE, diagnose, diagnosed, place
from techmarket.errors import Cancelled, NotMigrated, Terminal, Usage

ORDERS, MOST_ORDERS = 600, 20_000_000
SEED, MOST_SEED = 42, 2**63 - 1
MOST_CHANGES = 1_000_000


class Command(BaseCommand):
    help = "Fills the four source databases with a demo shop, the same for the same seed; or changes a shop that exists."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--orders",
            type=whole_number(1, MOST_ORDERS),
            metavar="N",
            help=f"how many orders (default {ORDERS}); people and products follow",
        )
        parser.add_argument(
            "--seed", type=whole_number(0, MOST_SEED), metavar="S", default=SEED, help=f"another seed is another shop (default {SEED})"
        )
        parser.add_argument("--replace", action="store_true", help="empty the shop first; without it a shop that has rows is left alone")
        parser.add_argument(
            "--changes", type=whole_number(1, MOST_CHANGES), metavar="N", help="apply N realistic changes to the shop that exists"
        )
        parser.add_argument("--faults", action="store_true", help="plant a row of each kind that must be rejected")
        parser.add_argument("--quiet", action="store_true", help="no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_mixture(options)
        refuse_unready()
        try:
            with diagnosed_sources():
                if options["changes"]:
                    self.change(options["changes"], options["seed"])
                elif options["faults"]:
                    self.plant()
                else:
                    self.generate(options["orders"] or ORDERS, options["seed"], options["replace"], options["quiet"])
        except shop.ShopIsEmpty:
            raise Terminal("The shop is empty: run `manage.py generate_data` first.") from None
        except KeyboardInterrupt:
            raise Cancelled("Cancelled; `manage.py generate_data --replace` begins anew.") from None

    def generate(self, orders: int, seed: int, replace: bool, quiet: bool) -> None:
        if replace:
            shop.clear()
        try:
            with bar(orders, quiet) as progress:
                written = shop.generate(orders, seed, progress)
        except shop.ShopHasRows:
            raise Terminal("The shop has rows already; --replace empties it first.") from None
        self.table([("table", "rows"), *written.items()])

    def change(self, count: int, seed: int) -> None:
        self.table([("change", "times"), *changes.apply(count, seed).items()])

    def plant(self) -> None:
        try:
            planted = faults.plant()
        except faults.ShopTooSmall:
            raise Terminal("The shop has too few sound orders for a fault of each kind; generate a larger one.") from None
        rows = [(fault.kind, fault.table, "-" if fault.row_id is None else fault.row_id, fault.what) for fault in planted]
        self.table([("kind", "table", "row id", "what is wrong"), *rows])

    def table(self, rows: Sequence[Sequence[object]]) -> None:
        """Columns padded with spaces, numbers to the right."""
        widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
        self.stdout.write("\n".join("  ".join(map(padded, row, widths)).rstrip() for row in rows))


def padded(cell: object, width: int) -> str:
    return f"{cell:>{width}}" if isinstance(cell, int) else f"{cell!s:<{width}}"


def refuse_mixture(options: dict[str, Any]) -> None:
    making = options["orders"] is not None or options["replace"]
    if making + (options["changes"] is not None) + options["faults"] > 1:
        raise Usage("--changes and --faults each stand alone, and without --orders or --replace.")


def refuse_unready() -> None:
    """All servers are asked before the first table is missed."""
    found = {alias: tables_of(alias) for alias in ALIASES}
    for alias, tables in found.items():
        missing = {model._meta.db_table for model in models(alias)} - tables
        if missing:
            raise NotMigrated(f"{place(alias)} lacks a table: {min(missing)}. {MIGRATE}")


def tables_of(alias: str) -> set[str]:
    with diagnosed(alias):
        return set(connections[alias].introspection.table_names())


@contextmanager
def diagnosed_sources() -> Iterator[None]:
    """As `diagnosed`, where any of the four may have raised: Django notes it on the connection."""
    try:
        yield
    except Error as error:
        raise diagnose(error, next((alias for alias in ALIASES if connections[alias].errors_occurred), ALIASES[0])) from error


@contextmanager
def bar(orders: int, quiet: bool) -> Iterator[shop.Progress | None]:
    """A progress bar on stderr, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("orders"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("orders", total=orders)
        yield lambda written: progress.advance(task, written)
