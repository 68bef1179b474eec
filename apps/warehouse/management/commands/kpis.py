"""manage.py kpis: the KPIs in the terminal."""

import sys
from typing import Any

from django.core.management.base import CommandParser
from rich.bar import Bar
from rich.console import Console
from rich.table import Column, Table

from apps.warehouse.dimensions import DimRegion
from apps.warehouse.kpis import Balances, Month, OrderBalance, Side, Totals, list_balances, read_balances, read_months, read_totals
from techmarket.commands import Command as BaseCommand
from techmarket.diagnosis import diagnosed
from techmarket.errors import Usage
from techmarket.formats import format_count, format_uah

BAR_WIDTH = 40  # columns of the terminal
SHOWN_ORDERS = 20  # of each side, with --balances


class Command(BaseCommand):
    help = "Show net revenue by month as a chart, with the totals."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--region", metavar="CODE", help="show only this region, for example KV")
        parser.add_argument("--balances", action="store_true", help="also list the orders that are paid less, or more, than their net")

    def handle(self, **options: Any) -> None:
        region = options["region"]
        with diagnosed("dwh"):
            check_region(region)
            months, totals, balances = read_months(region=region), read_totals(region=region), read_balances(region=region)
            orders = {side: list_balances(side, SHOWN_ORDERS, region=region) for side in Side} if options["balances"] else {}
        console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
        if not months:
            console.print("This region has no sales." if region else "The warehouse is empty. Run `manage.py run_etl --mode full`.")
            return
        console.print(build_chart(months))
        console.print(summarize(totals, balances))
        for side, listed in orders.items():
            console.print(build_list(side, listed) if listed else f"No order is {side}.")
        console.print("Open the admin: `manage.py createsuperuser` once, then `make run`, then http://127.0.0.1:8000/")


def check_region(region: str | None) -> None:
    """Raise Usage for an unknown code, unless no region is loaded yet."""
    known = list(DimRegion.objects.filter(region_key__gt=0).order_by("code").values_list("code", flat=True))
    if region is not None and known and region not in known:
        raise Usage(f"There is no region {region!r}. Choose one of {', '.join(known)}.")


def build_chart(months: list[Month]) -> Table:
    highest = float(max(month.net for month in months))
    amounts = (Column(name, justify="right", no_wrap=True) for name in ("net, UAH", "margin, UAH", "orders"))
    table = Table("month", *amounts, Column(width=BAR_WIDTH), title="Net revenue by month", title_justify="left", box=None)
    for month in months:
        bar = Bar(highest, 0, float(month.net), width=BAR_WIDTH, color="green") if sys.stdout.encoding.lower().startswith("utf") else ""
        table.add_row(str(month), format_uah(month.net), format_uah(month.margin), format_count(month.orders), bar)
    return table


def build_list(side: Side, orders: list[OrderBalance]) -> Table:
    amounts = (Column(name, justify="right", no_wrap=True) for name in ("net, UAH", "paid, UAH", f"{side}, UAH"))
    title = f"Orders {side}, the largest first"
    table = Table(Column("order", justify="right"), "day", "region", *amounts, title=title, title_justify="left", box=None)
    for order in orders:
        cells = (format_uah(amount) for amount in (order.net, order.paid, order.amount))
        table.add_row(str(order.order_id), str(order.day or ""), order.region, *cells)
    return table


def summarize(totals: Totals, balances: Balances) -> str:
    uncosted = f" (cost unknown for {format_uah(totals.uncosted)} UAH of net)" if totals.uncosted else ""
    return (
        f"Total: net {format_uah(totals.net)} UAH, margin {totals.margin_percent} %{uncosted}, {format_count(totals.orders)} orders, "
        f"average order {format_uah(totals.average_order)} UAH. "
        f"Outstanding: {format_uah(balances.outstanding)} UAH of {format_count(balances.outstanding_orders)} orders; "
        f"overpaid: {format_uah(balances.overpaid)} UAH of {format_count(balances.overpaid_orders)} orders."
    )
