"""manage.py kpis: the star in the terminal."""

import sys
from typing import Any

from django.core.management.base import CommandParser
from rich.bar import Bar
from rich.console import Console
from rich.table import Column, Table

from apps.warehouse.dimensions import DimRegion
from apps.warehouse.kpis import Month, Totals, by_month, sales, totals
from techmarket.commands import Command as BaseCommand
from techmarket.diagnosis import diagnosed
from techmarket.errors import Usage
from techmarket.formats import format_count, format_uah

BAR = 40


class Command(BaseCommand):
    help = "Net revenue by month, drawn, and what it adds up to."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--region", metavar="CODE", help="only this region, as KV")

    def handle(self, **options: Any) -> None:
        with diagnosed("dwh"):
            refuse_unknown(options["region"])
            facts = sales(region=options["region"])
            months, sums = by_month(facts), totals(facts)
        screen = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
        if not months:
            empty = (
                "There is no sale of that region." if options["region"] else "The star is empty. `manage.py run_etl --mode full` fills it."
            )
            screen.print(empty)
            return
        screen.print(chart(months))
        screen.print(summary(sums))
        screen.print("Open the admin: `manage.py createsuperuser` once, then `manage.py runserver`, then http://127.0.0.1:8000/")


def refuse_unknown(region: str | None) -> None:
    known = list(DimRegion.objects.filter(region_key__gt=0).order_by("code").values_list("code", flat=True))
    if region is not None and known and region not in known:
        raise Usage(f"There is no region {region!r}. There are: {', '.join(known)}.")


def chart(months: list[Month]) -> Table:
    most = float(max(month.net for month in months))
    money = (Column(name, justify="right", no_wrap=True) for name in ("net, UAH", "margin, UAH", "orders"))
    table = Table("month", *money, Column(width=BAR), title="Net revenue by month", title_justify="left", box=None)
    for month in months:
        bar = Bar(most, 0, float(month.net), width=BAR, color="green") if sys.stdout.encoding.lower().startswith("utf") else ""
        table.add_row(str(month), format_uah(month.net), format_uah(month.margin), format_count(month.orders), bar)
    return table


def summary(sums: Totals) -> str:
    return (
        f"In all: net {format_uah(sums.net)} UAH, margin {sums.margin_percent} %, {format_count(sums.orders)} orders, "
        f"{format_uah(sums.average_order)} UAH an order on average, {format_uah(sums.net - sums.paid)} UAH unpaid."
    )
