"""The KPIs by month and in total, and the orders that owe money or are owed it, read from the views of kpi_sql.py.

Money is UAH; days and months are those of the shop's calendar.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

from django.db import connections

from apps.warehouse.dimensions import DimRegion
from techmarket.errors import Terminal
from techmarket.messages import message

ZERO_UAH = Decimal("0.00")
TENTH = Decimal("0.1")
UNCOSTED = "sum(CASE WHEN margin_amount IS NULL THEN net_amount END)"  # of kpi_lines
Row = dict[str, Any]


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
    uncosted: Decimal = ZERO_UAH  # net of the lines whose cost is unknown, which add nothing to the margin

    @property
    def average_order(self) -> Decimal:
        """Net revenue per order, UAH."""
        return divide_among(self.net, self.orders)

    @property
    def margin_percent(self) -> Decimal:
        return self.percent_of_net(self.margin)

    def percent_of_net(self, part: Decimal) -> Decimal:
        return (part * 100 / self.net).quantize(TENTH, ROUND_HALF_UP) if self.net else Decimal("0.0")


class Side(StrEnum):
    """The orders that are paid less than their net, and those that are paid more."""

    OUTSTANDING = "outstanding"
    OVERPAID = "overpaid"


@dataclass(frozen=True)
class Balances:
    """UAH and number of the orders of each side. They are never set off against each other."""

    outstanding: Decimal = ZERO_UAH
    outstanding_orders: int = 0
    overpaid: Decimal = ZERO_UAH
    overpaid_orders: int = 0


@dataclass(frozen=True)
class OrderBalance:
    order_id: int
    day: date | None
    region: str
    net: Decimal
    paid: Decimal

    @property
    def amount(self) -> Decimal:
        """UAH that are outstanding, or that were paid too much."""
        return abs(self.net - self.paid)


def read_totals(start: date | None = None, end: date | None = None, region: str | None = None) -> Totals:
    """Return the totals of the days from `start` to `end`, both included, in the region with this code."""
    (row,) = fetch_rows(
        "SELECT sum(net_amount) AS net, sum(margin_amount) AS margin, sum(paid_amount) AS paid, count(DISTINCT order_id) AS orders, "
        f"{UNCOSTED} AS uncosted FROM kpi_lines WHERE {build_condition(start, end, region)}"
    )
    return Totals(to_uah(row["net"]), to_uah(row["margin"]), to_uah(row["paid"]), row["orders"], to_uah(row["uncosted"]))


def read_months(start: date | None = None, end: date | None = None, region: str | None = None) -> list[Month]:
    """Return the months that had sales, the earliest first; the filters are those of `read_totals`."""
    rows = fetch_rows(
        "SELECT year, month, sum(net_amount) AS net, sum(margin_amount) AS margin, sum(orders) AS orders "
        f"FROM kpi_orders WHERE {build_condition(start, end, region)} GROUP BY year, month ORDER BY year, month"
    )
    return [Month(row["year"], row["month"], to_uah(row["net"]), to_uah(row["margin"]), row["orders"]) for row in rows]


def read_balances(start: date | None = None, end: date | None = None, region: str | None = None) -> Balances:
    """Return what is outstanding and what is overpaid; the filters are those of `read_totals`."""
    names = ("outstanding_amount", "outstanding_orders", "overpaid_amount", "overpaid_orders")
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    return add_up_balances(fetch_rows(f"SELECT {sums} FROM kpi_orders WHERE {build_condition(start, end, region)}"))


def add_up_balances(rows: Iterable[Row]) -> Balances:
    """Sum rows of kpi_orders."""
    rows = list(rows)
    outstanding, overpaid = (sum((to_uah(row[f"{side}_amount"]) for row in rows), ZERO_UAH) for side in Side)
    owing, owed = (sum(row[f"{side}_orders"] or 0 for row in rows) for side in Side)
    return Balances(outstanding, owing, overpaid, owed)


def list_balances(
    side: Side, limit: int | None, offset: int = 0, *, start: date | None = None, end: date | None = None, region: str | None = None
) -> list[OrderBalance]:
    """Return the orders of the side, the largest amount first; the filters are those of `read_totals`."""
    balance = "round(sum(net_amount) - sum(paid_amount), 2)" if side is Side.OUTSTANDING else "round(sum(paid_amount) - sum(net_amount), 2)"
    rows = fetch_rows(
        "SELECT order_id, min(date_key) AS day, min(region) AS region, sum(net_amount) AS net, sum(paid_amount) AS paid "
        f"FROM kpi_lines WHERE {build_condition(start, end, region)} GROUP BY order_id HAVING {balance} > 0 "
        f"ORDER BY {balance} DESC, order_id" + (f" LIMIT {limit:d} OFFSET {offset:d}" if limit is not None else "")
    )
    return [OrderBalance(row["order_id"], to_day(row["day"]), row["region"], to_uah(row["net"]), to_uah(row["paid"])) for row in rows]


def to_day(date_key: int) -> date | None:
    """Return the day of a key in dim_date, None of the row *Unknown*."""
    return date(date_key // 10_000, date_key // 100 % 100, date_key % 100) if date_key > 0 else None


def fetch_rows(sql: str) -> list[Row]:
    with connections["dwh"].cursor() as cursor:
        cursor.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def build_condition(start: date | None, end: date | None, region: str | None) -> str:
    """Return SQL for the filters. It names keys alone: both views apply it to the fact before anything is summed."""
    conditions = []
    if start or end:
        conditions.append(f"date_key BETWEEN {to_date_key(start or date.min)} AND {to_date_key(end or date.max)}")
    if region is not None:
        keys = DimRegion.objects.filter(code=region).values_list("region_key", flat=True)
        conditions.append(f"region_key IN ({', '.join(map(str, keys)) or 'NULL'})")
    return " AND ".join(conditions) or "1 = 1"


def to_date_key(day: date) -> int:
    """Return the day's key in dim_date."""
    return day.year * 10_000 + day.month * 100 + day.day


def divide_among(amount: Decimal, orders: int) -> Decimal:
    """Round half a kopiyka up, as PostgreSQL does and Metabase therefore shows."""
    return (amount / orders).quantize(ZERO_UAH, ROUND_HALF_UP) if orders else ZERO_UAH


def to_uah(total: Decimal | float | None) -> Decimal:
    """Round to the kopiyka, since SQLite sums floats; nothing is zero. Raises Terminal for PostgreSQL's NaN."""
    amount = Decimal(str(total or 0))
    if not amount.is_finite():
        raise Terminal(message("warehouse.not_a_number"))
    return amount.quantize(ZERO_UAH)
