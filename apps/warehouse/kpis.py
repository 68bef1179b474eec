"""What people ask of the warehouse. Money is UAH; months are business months of the shop."""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from django.db.models import Count, F, QuerySet, Sum

from apps.warehouse.facts import FactSales

NOTHING = Decimal("0.00")


@dataclass(frozen=True)
class Month:
    year: int
    month: int
    net: Decimal
    margin: Decimal
    orders: int

    def __str__(self) -> str:
        return f"{self.year}-{self.month:02}"


@dataclass(frozen=True)
class Totals:
    net: Decimal
    margin: Decimal
    paid: Decimal
    orders: int

    @property
    def average_order(self) -> Decimal:
        """Net by distinct orders."""
        return average(self.net, self.orders)

    @property
    def margin_percent(self) -> Decimal:
        return self.percent(self.margin)

    @property
    def paid_percent(self) -> Decimal:
        """The rest is the unpaid exposure."""
        return self.percent(self.paid)

    def percent(self, part: Decimal) -> Decimal:
        return (part * 100 / self.net).quantize(Decimal("0.1"), ROUND_HALF_UP) if self.net else Decimal("0.0")


def sales(start: date | None = None, end: date | None = None, region: str | None = None) -> "QuerySet[FactSales]":
    """The facts of business days from `start` to `end`, both included, of the region with this code."""
    facts = FactSales.objects.all()
    if start or end:
        facts = facts.filter(date__gte=key(start or date.min), date__lte=key(end or date.max))
    return facts.filter(region__code=region) if region is not None else facts


def key(day: date) -> int:
    """The day's row in dim_date."""
    return day.year * 10_000 + day.month * 100 + day.day


def by_month(facts: "QuerySet[FactSales]") -> list[Month]:
    months = facts.values(year=F("date__year"), month=F("date__month")).order_by("year", "month")
    return [
        Month(row["year"], row["month"], uah(row["net"]), uah(row["margin"]), row["orders"])
        for row in months.annotate(net=Sum("net_amount"), margin=Sum("margin_amount"), orders=Count("order_id", distinct=True))
    ]


def totals(facts: "QuerySet[FactSales]") -> Totals:
    row = facts.aggregate(
        net=Sum("net_amount"), margin=Sum("margin_amount"), paid=Sum("paid_amount"), orders=Count("order_id", distinct=True)
    )
    return Totals(uah(row["net"]), uah(row["margin"]), uah(row["paid"]), row["orders"])


def average(net: Decimal, orders: int) -> Decimal:
    """Half a kopiyka goes up, as PostgreSQL rounds, and so as Metabase shows it."""
    return (net / orders).quantize(NOTHING, ROUND_HALF_UP) if orders else NOTHING


def uah(total: Decimal | None) -> Decimal:
    """To the kopiyka: SQLite sums floats."""
    return (total or NOTHING).quantize(NOTHING)
