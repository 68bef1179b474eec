"""manage.py generate_data: the demo shop, changes to it, and faults in it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error, connections
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.demo import changes, faults, shop
from apps.demo.bulk import ALIASES, get_models
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.diagnosis import diagnose, diagnosed, missing_table
from techmarket.errors import Cancelled, Terminal, Usage

DEFAULT_ORDERS, MAX_ORDERS = 600, 20_000_000
DEFAULT_SEED, MAX_SEED = 42, 2**63 - 1
MAX_CHANGES = 1_000_000


class Command(BaseCommand):
    help = "Fill the four source databases with a demo shop, always the same for one seed; or change an existing shop."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--orders",
            type=whole_number(1, MAX_ORDERS),
            metavar="N",
            help=f"number of orders (default {DEFAULT_ORDERS}); customers, employees and products grow with it",
        )
        parser.add_argument(
            "--seed",
            type=whole_number(0, MAX_SEED),
            metavar="S",
            default=DEFAULT_SEED,
            help=f"seed of the random numbers (default {DEFAULT_SEED})",
        )
        parser.add_argument(
            "--replace", action="store_true", help="delete the rows of the shop first; without it a shop with rows is left unchanged"
        )
        parser.add_argument(
            "--changes", type=whole_number(1, MAX_CHANGES), metavar="N", help="apply N realistic changes to the existing shop"
        )
        parser.add_argument("--faults", action="store_true", help="add one row of each kind that the ETL must reject")
        parser.add_argument("--quiet", action="store_true", help="show no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_conflicting_options(options)
        refuse_missing_tables()
        try:
            with diagnosed_sources():
                if options["changes"]:
                    self.change(options["changes"], options["seed"])
                elif options["faults"]:
                    self.plant()
                else:
                    self.generate(options["orders"] or DEFAULT_ORDERS, options["seed"], options["replace"], options["quiet"])
            chosen = ("orders", "seed", "replace", "changes", "faults")
            record_command(Deed.DEMO_GENERATED, {name: options[name] for name in chosen if options[name]})
        except shop.ShopIsEmpty:
            raise Terminal("The shop is empty. Run `manage.py generate_data` first.") from None
        except KeyboardInterrupt:
            raise Cancelled("Cancelled. `manage.py generate_data --replace` starts over.") from None

    def generate(self, orders: int, seed: int, replace: bool, quiet: bool) -> None:
        if replace:
            shop.clear()
        try:
            with show_progress(orders, quiet) as progress:
                rows = shop.generate(orders, seed, progress)
        except shop.ShopNotEmpty:
            raise Terminal("The shop already has rows. Run it with --replace to delete them first.") from None
        self.print_table([("table", "rows"), *rows.items()])

    def change(self, count: int, seed: int) -> None:
        self.print_table([("change", "times"), *changes.apply(count, seed).items()])

    def plant(self) -> None:
        try:
            planted = faults.plant()
        except faults.ShopTooSmall:
            raise Terminal(
                "The shop has too few consistent orders for a fault of each kind. Generate a larger one: --replace --orders 600."
            ) from None
        rows = [(fault.kind, fault.table, "-" if fault.row_id is None else fault.row_id, fault.description) for fault in planted]
        self.print_table([("kind", "table", "row id", "what is wrong"), *rows])

    def print_table(self, rows: Sequence[Sequence[object]]) -> None:
        """Print columns padded with spaces, numbers aligned right."""
        widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
        self.stdout.write("\n".join("  ".join(map(pad_cell, row, widths)).rstrip() for row in rows))


def pad_cell(cell: object, width: int) -> str:
    return f"{cell:>{width}}" if isinstance(cell, int) else f"{cell!s:<{width}}"


def refuse_conflicting_options(options: dict[str, Any]) -> None:
    generates = options["orders"] is not None or options["replace"]
    if generates + (options["changes"] is not None) + options["faults"] > 1:
        raise Usage("Give only one of --changes, --faults, and --orders or --replace.")


def refuse_missing_tables() -> None:
    """Connect to all four servers, then raise an error for the first missing table."""
    found = {alias: list_tables(alias) for alias in ALIASES}
    for alias, tables in found.items():
        missing = {model._meta.db_table for model in get_models(alias)} - tables
        if missing:
            raise missing_table(alias, min(missing))


def list_tables(alias: str) -> set[str]:
    with diagnosed(alias):
        return set(connections[alias].introspection.table_names())


@contextmanager
def diagnosed_sources() -> Iterator[None]:
    """Translate a database error as `diagnosed` does, for the connection of the four that Django has marked with an error."""
    try:
        yield
    except Error as error:
        raise diagnose(error, next((alias for alias in ALIASES if connections[alias].errors_occurred), ALIASES[0])) from error


@contextmanager
def show_progress(orders: int, quiet: bool) -> Iterator[shop.Progress | None]:
    """Show a progress bar on stderr where it is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("orders"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("orders", total=orders)
        yield lambda count: progress.advance(task, count)
