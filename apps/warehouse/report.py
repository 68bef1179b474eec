"""All KPIs of a period in two scans of the fact: of its orders, and of what was sold.

An order has one day, one region, one employee and one payment method: counted once for each of these, orders add up. They do not by
product, so products have a scan of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, ExpressionWrapper, F, IntegerField, Max, Min, Model, QuerySet, Sum

from apps.warehouse.dimensions import DimCategory, DimEmployee, DimProduct, DimRegion
from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import NOTHING, Month, Totals, average, sales, totals, uah

TOP = 10
Scan = list[dict[str, Any]]


@dataclass(frozen=True)
class Share:
    """What one region, employee, payment method, product or category sold. `orders` is 0 where orders do not add up."""

    key: int | str
    name: str
    net: Decimal
    margin: Decimal
    orders: int

    @property
    def average_order(self) -> Decimal:
        return average(self.net, self.orders)


@dataclass(frozen=True)
class Report:
    """The KPIs of the business days from `start` to `end`. `before`: the totals of as many days before them, where there were sales."""

    totals: Totals
    before: Totals | None
    months: list[Month]
    regions: list[Share]
    employees: list[Share]
    methods: list[Share]
    products: list[Share]
    categories: list[Share]


def sold_between() -> tuple[date, date] | None:
    """The first and the last business day with a sale."""
    ends = FactSales.objects.filter(date__gt=0).aggregate(first=Min("date"), last=Max("date"))
    return (day(ends["first"]), day(ends["last"])) if ends["first"] else None


def day(key: int) -> date:
    return date(key // 10_000, key // 100 % 100, key % 100)


def report(start: date | None = None, end: date | None = None, region: str | None = None) -> Report:
    facts = sales(start, end, region)
    orders, goods = scan_orders(facts), scan_goods(facts)
    return Report(
        totals=summed(orders),
        before=earlier(start, end, region),
        months=months(orders),
        regions=shares(orders, "region_id", names(DimRegion)),
        employees=shares(orders, "employee_id", names(DimEmployee)),
        methods=shares(orders, "payment_method"),
        products=shares(goods, "product_id", names(DimProduct))[:TOP],
        categories=shares(goods, "category_id", names(DimCategory)),
    )


def scan_orders(facts: "QuerySet[FactSales]") -> Scan:
    month = ExpressionWrapper(F("date_id") / 100, IntegerField())  # of whole numbers, so without the days
    cells = facts.order_by().values("region_id", "employee_id", "payment_method", month=month)
    sums = {"net": Sum("net_amount"), "margin": Sum("margin_amount"), "paid": Sum("paid_amount")}
    return [dict(cell) for cell in cells.annotate(**sums, orders=Count("order_id", distinct=True))]


def scan_goods(facts: "QuerySet[FactSales]") -> Scan:
    cells = facts.order_by().values("product_id", "category_id")
    return [dict(cell) for cell in cells.annotate(net=Sum("net_amount"), margin=Sum("margin_amount"))]


def earlier(start: date | None, end: date | None, region: str | None) -> Totals | None:
    """The totals of the period of the same length that ends the day before `start`."""
    if not (start and end):
        return None
    days = end - start
    if (start - date.min) <= days:
        return None
    before = totals(sales(start - days - timedelta(days=1), start - timedelta(days=1), region))
    return before if before.orders else None


def summed(cells: Iterable[Mapping[str, Any]]) -> Totals:
    cells = list(cells)
    net, margin, paid = (uah(sum((cell[name] or NOTHING for cell in cells), NOTHING)) for name in ("net", "margin", "paid"))
    return Totals(net, margin, paid, sum(cell["orders"] for cell in cells))


def grouped(cells: Scan, name: str) -> dict[Any, Scan]:
    groups: dict[Any, Scan] = {}
    for cell in cells:
        groups.setdefault(cell[name], []).append({"paid": NOTHING, "orders": 0} | cell)
    return groups


def months(cells: Scan) -> list[Month]:
    sums = {month: summed(some) for month, some in sorted(grouped(cells, "month").items())}
    return [Month(month // 100, month % 100, of.net, of.margin, of.orders) for month, of in sums.items()]


def shares(cells: Scan, name: str, names: Mapping[Any, str] | None = None) -> list[Share]:
    """Largest revenue first."""
    sums = {key: summed(some) for key, some in grouped(cells, name).items()}
    found = [Share(key, names.get(key, str(key)) if names is not None else key, of.net, of.margin, of.orders) for key, of in sums.items()]
    return sorted(found, key=lambda share: (-share.net, share.name))


def names(dimension: type[Model]) -> dict[Any, str]:
    return {row.pk: str(row) for row in dimension._default_manager.all()}
