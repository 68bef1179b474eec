"""manage.py reconcile: prove the star against the sources, day by day, and repair what differs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from apps.audit.chain import record
from apps.audit.models import Deed
from apps.etl.money import uah
from apps.etl.preflight import preflight
from apps.etl.reconcile.compare import Listener
from apps.etl.reconcile.numbers import MONEY
from apps.etl.reconcile.payments import Mismatches
from apps.orchestration.management.commands.run_etl import add_window_arguments, parse_window, read_orders
from apps.orchestration.models import DayProof, Mismatch, Verdict
from apps.orchestration.proof import Proof, prove
from apps.orchestration.terminal import console
from apps.orchestration.verified import verified_through
from apps.orchestration.window import Window
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop
from techmarket.formats import format_count, format_uah

SHOWN_DAYS, SHOWN_ORDERS, SHOWN_LINES = 31, 20, 5
NAMES = {
    "line_ids": "other lines",
    "product_ids": "other products",
    "days": "day",
    "customers": "customer",
    "employees": "employee",
    "regions": "region",
    "shipped": "status",
    "checksum": "content of lines",
    "paid_checksum": "paid",
}


class Command(BaseCommand):
    help = (
        "Compare the warehouse with the sources, by SQL of their own on both sides: every day, order and line. "
        "Exit codes: 0 equal, 6 differences found, 2 usage, 4 configuration wrong or a database unreachable; with --repair also those of "
        "run_etl."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_window_arguments(parser, "orders")
        parser.add_argument("--repair", action="store_true", help="load exactly the orders that differ, then compare again")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors")

    def handle(self, **options: Any) -> None:
        window = parse_window(options)
        preflight()
        silent = options["json"] or options["quiet"]
        proof, repair = self.prove(window, silent), None
        if options["repair"] and proof.orders:
            repair = read_orders(proof.orders, "repair after a comparison").pk
            proof = self.prove(window, silent)
        if options["json"]:
            self.stdout.write(json.dumps(document(proof, repair), ensure_ascii=False, default=str))
        elif not options["quiet"]:
            show(proof)
        record(Deed.SOURCES_COMPARED, after={"differing_orders": len(proof.orders)} | ({"repair": repair} if repair else {}))
        if not proof.is_equal:
            stop(describe_difference(proof), ExitCode.DIFFERENT)

    def prove(self, window: Window, silent: bool) -> Proof:
        with progress(silent) as listener:
            return prove(window, listener)


@contextmanager
def progress(silent: bool) -> Iterator[Listener]:
    screen = console(stderr=True)
    if silent or not screen.is_terminal:
        yield lambda done, steps: None
        return
    columns = (SpinnerColumn(), TextColumn("comparing the sources with the warehouse"), BarColumn(24), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task("")
        yield lambda done, steps: bars.update(bar, completed=done, total=steps)


# --- What is shown ---


def show(proof: Proof) -> None:
    screen = console()
    differing = [day for day in proof.days if day.verdict != Verdict.EQUAL]
    if differing:
        screen.print(days_table(differing[:SHOWN_DAYS]))
    for order in proof.comparison.orders[:SHOWN_ORDERS]:
        why = "changed in the source since the load" if order.changed else "differs"
        screen.print(f"  order {order.order_id} of {iso(order.day)} {why}: {', '.join(describe_order(order))}")
        for line in order.lines[:SHOWN_LINES]:
            screen.print(f"    line {line.line}: {describe_line(line)}")
    if len(proof.comparison.orders) > SHOWN_ORDERS:
        screen.print(f"  and {format_count(len(proof.comparison.orders) - SHOWN_ORDERS)} more orders; all are in --json")
    for reject in proof.changed_rejects[:SHOWN_ORDERS]:
        screen.print(f"  rejected row {reject.table} {reject.row_id} has changed since it was read")
    for kind, found in proof.comparison.mismatches.items():
        if len(found.order_id):
            screen.print(f"  payments: {describe_mismatches(Mismatch(kind), found)}")
    screen.print(closing(proof))


def days_table(days: list[DayProof]) -> Table:
    numeric = ("orders", "net, sources", "net, warehouse", "difference", "paid, difference")
    table = Table("day", *(Column(name, justify="right") for name in numeric), "verdict", header_style="bold")
    for day in days:
        net, paid = (uah(day.star[name] - day.source[name]) for name in ("net", "paid"))
        amounts = (format_uah(uah(day.source["net"])), format_uah(uah(day.star["net"])), format_uah(net, "+"), format_uah(paid, "+"))
        table.add_row(day.day.isoformat(), format_count(day.differing), *amounts, str(Verdict(day.verdict).label))
    return table


def describe_mismatches(kind: Mismatch, found: Mismatches) -> str:
    balance = found.net - found.paid
    columns = (found.net, found.paid, balance.clip(min=0), -balance.clip(max=0))
    net, paid, outstanding, overpaid = (format_uah(uah(int(column.sum()))) for column in columns)
    orders = f"{format_count(len(found.order_id))} orders {str(kind.label).lower()}"
    return f"{orders}: net {net} UAH, paid {paid} UAH; outstanding {outstanding} UAH, overpaid {overpaid} UAH"


def describe_order(order: Any) -> Iterator[str]:
    if not order.star["lines"]:
        yield "not in the warehouse"
    elif not order.source["lines"]:
        yield "not in the sources"
    else:
        for name in order.differing:
            if name in NAMES:
                yield NAMES[name]
            else:
                yield f"{name} {amount(name, order.source[name])} / {amount(name, order.star[name])}"


def describe_line(line: Any) -> str:
    if not line.column:
        side = "sources" if line.star is None else "warehouse"
        return f"only in the {side}"
    return f"{line.column}: {amount(line.column, line.source)} in the source, {amount(line.column, line.star)} in the warehouse"


def amount(name: str, value: int) -> str:
    return format_uah(uah(value)) if name in MONEY else str(value)


def closing(proof: Proof) -> str:
    through = verified_through()
    known = f"Verified through {through.day}." if through else "No day is verified yet."
    equal = sum(day.verdict == Verdict.EQUAL for day in proof.days)
    return f"{format_count(equal)} of {format_count(len(proof.days))} days are equal. {known}"


def describe_difference(proof: Proof) -> str:
    days = [day for day in proof.days if day.verdict != Verdict.EQUAL]
    orders = sum(day.differing for day in days) + len({each.slice_id for each in proof.changed_rejects})
    first = f", first {days[0].day}" if days else ""
    return f"{orders} orders differ on {len(days)} days{first}. `manage.py reconcile --repair` loads exactly these."


def iso(day: int) -> str:
    return f"{day // 10_000:04}-{day // 100 % 100:02}-{day % 100:02}"


def document(proof: Proof, repair: int | None) -> dict[str, Any]:
    """Return the comparison as plain values, money in kopiykas. docs/ETL.md has the keys."""
    through = verified_through()
    return {
        "equal": proof.is_equal,
        "checked_at": proof.checked_at.isoformat(),
        "repair": repair,
        "verified_through": through.day.isoformat() if through else None,
        "days": [
            {"day": day.day.isoformat(), "verdict": day.verdict, "orders": day.differing, "source": day.source, "star": day.star}
            for day in proof.days
            if day.verdict != Verdict.EQUAL
        ],
        "days_equal": sum(day.verdict == Verdict.EQUAL for day in proof.days),
        "orders": [
            {
                "order": order.order_id,
                "day": iso(order.day),
                "changed": order.changed,
                "differing": order.differing,
                "source": order.source,
                "star": order.star,
                "lines": [vars(line) for line in order.lines],
            }
            for order in proof.comparison.orders
        ],
        "changed_rejects": [{"table": each.table, "row": each.row_id, "order": each.slice_id} for each in proof.changed_rejects],
        "payments": [{"kind": kind, **row} for kind, found in proof.comparison.mismatches.items() for row in found.rows()],
    }
