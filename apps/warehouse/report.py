"""All KPIs of a period, in one query of each KPI view.

An order has one day, one region, one manager and one payment method, so one query by all four gives the KPIs by each of them. Orders do not
add up by product, which is why products have a query of their own.
"""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db.models import Max, Min

from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import (
    UNCOSTED,
    ZERO_UAH,
    Balances,
    Month,
    Row,
    Totals,
    add_up_balances,
    build_condition,
    divide_among,
    fetch_rows,
    read_totals,
    to_day,
    to_uah,
)

TOP_PRODUCTS = 10
# Grouped by keys, since names make the rows to be sorted wide: a year of 1.1 million lines takes 1.5 and 0.5 s instead of 2.3 and 0.9 s.
ORDERS_SQL = """\
SELECT year, month, region_key, min(region) AS region, employee_key, min(manager) AS manager, payment_method,
    sum(net_amount) AS net, sum(margin_amount) AS margin, sum(paid_amount) AS paid, sum(orders) AS orders,
    sum(outstanding_amount) AS outstanding_amount, sum(outstanding_orders) AS outstanding_orders,
    sum(overpaid_amount) AS overpaid_amount, sum(overpaid_orders) AS overpaid_orders
FROM kpi_orders
WHERE {condition}
GROUP BY year, month, region_key, employee_key, payment_method"""
PRODUCTS_SQL = f"""\
SELECT s.product_key, p.name AS product, s.category_key, c.name AS category, s.net, s.margin, s.uncosted
FROM (
    SELECT product_key, category_key, sum(net_amount) AS net, sum(margin_amount) AS margin, {UNCOSTED} AS uncosted
    FROM kpi_lines
    WHERE {{condition}}
    GROUP BY product_key, category_key
) AS s
JOIN dim_product AS p ON p.product_key = s.product_key
JOIN dim_category AS c ON c.category_key = s.category_key"""


@dataclass(frozen=True)
class Share:
    """The sales of one region, manager, payment method, product or category. `orders` is 0 where orders do not add up."""

    key: int | str
    name: str
    net: Decimal
    margin: Decimal
    orders: int

    @property
    def average_order(self) -> Decimal:
        return divide_among(self.net, self.orders)


@dataclass(frozen=True)
class Report:
    """The KPIs of the days from `start` to `end`.

    `before`: the totals of the period before them, whose days are `compared`; None where nothing was sold.
    """

    totals: Totals
    balances: Balances
    before: Totals | None
    compared: tuple[date, date] | None
    months: list[Month]
    regions: list[Share]
    employees: list[Share]
    methods: list[Share]
    products: list[Share]
    categories: list[Share]

    @property
    def paid_percent(self) -> Decimal:
        """The share of net revenue that is paid; the rest is outstanding. What was paid too much settles no other order."""
        return self.totals.percent_of_net(self.totals.net - self.balances.outstanding)


def build_report(start: date | None = None, end: date | None = None, region: str | None = None) -> Report:
    """Return the KPIs of the days from `start` to `end`, both included, in the region with this code."""
    filters, compared = build_condition(start, end, region), find_period_before(start, end)
    orders, products = fetch_rows(ORDERS_SQL.format(condition=filters)), fetch_rows(PRODUCTS_SQL.format(condition=filters))
    return Report(
        totals=replace(add_up(orders), uncosted=add_up(products).uncosted),
        balances=add_up_balances(orders),
        before=read_totals_before(compared, region),
        compared=compared,
        months=split_by_month(orders),
        regions=split(orders, "region_key", "region"),
        employees=split(orders, "employee_key", "manager"),
        methods=split(orders, "payment_method", "payment_method"),
        products=split(products, "product_key", "product")[:TOP_PRODUCTS],
        categories=split(products, "category_key", "category"),
    )


def find_sales_period() -> tuple[date, date] | None:
    """Return the first and the last day with a sale."""
    keys = FactSales.objects.filter(date__gt=0).aggregate(first=Min("date"), last=Max("date"))
    first, last = (to_day(keys[name] or 0) for name in ("first", "last"))
    return (first, last) if first and last else None


def find_period_before(start: date | None, end: date | None) -> tuple[date, date] | None:
    """Return the days with which the days from `start` to `end` are compared: of whole months, as many months, else as many days.

    They end the day before `start`. None where a side is open, or the calendar has no such days.
    """
    if not (start and end):
        return None
    months = (end.year - start.year) * 12 + end.month - start.month + 1
    first = start.year * 12 + start.month - 1 - months
    if start.day == 1 and end.day == monthrange(end.year, end.month)[1] and first >= 12:
        return date(first // 12, first % 12 + 1, 1), start - timedelta(days=1)
    if start - date.min <= end - start:
        return None
    return start - (end - start) - timedelta(days=1), start - timedelta(days=1)


def read_totals_before(period: tuple[date, date] | None, region: str | None) -> Totals | None:
    before = read_totals(*period, region) if period else None
    return before if before and before.orders else None


def add_up(rows: Iterable[Row]) -> Totals:
    """Sum rows of either query; those of products have neither payments nor orders, the others no lines without a cost."""
    rows = list(rows)
    names = ("net", "margin", "paid", "uncosted")
    net, margin, paid, uncosted = (sum((to_uah(row.get(name)) for row in rows), ZERO_UAH) for name in names)
    return Totals(net, margin, paid, sum(row.get("orders", 0) for row in rows), uncosted)


def split_by_month(rows: Iterable[Row]) -> list[Month]:
    months = []
    for (year, month), some in group(rows, "year", "month"):
        totals = add_up(some)
        months.append(Month(year, month, totals.net, totals.margin, totals.orders))
    return months


def split(rows: Iterable[Row], key: str, name: str) -> list[Share]:
    """Return a share for each value of `key`, the largest revenue first."""
    shares = []
    for values, some in group(rows, key, name):
        totals = add_up(some)
        shares.append(Share(values[0], values[1], totals.net, totals.margin, totals.orders))
    return sorted(shares, key=lambda share: (-share.net, share.name))


def group(rows: Iterable[Row], *columns: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Return the rows by their values of these columns, in the order of the values."""
    values = itemgetter(*columns)
    return [(found, list(some)) for found, some in groupby(sorted(rows, key=values), values)]
