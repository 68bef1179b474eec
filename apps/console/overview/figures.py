"""The KPIs as charts with tables, in which each line links to its fact rows."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.console.overview.charts import Chart, Series
from apps.warehouse.dimensions import NOT_APPLICABLE, UNKNOWN
from apps.warehouse.kpis import ZERO_UAH, Month, Side, to_date_key
from apps.warehouse.report import Report, Share
from techmarket.formats import localize_count, localize_uah

ORDERS, REVENUE, MARGIN = "orders", "revenue", "margin"
METHODS: dict[int | str, Any] = {
    "card": gettext_lazy("card"),
    "paypal": gettext_lazy("PayPal"),
    "bank_transfer": gettext_lazy("bank transfer"),
    "cash": gettext_lazy("cash"),
    "mixed": gettext_lazy("Mixed"),
    "none": gettext_lazy("unpaid"),
}


@dataclass(frozen=True)
class Period:
    """The filters of the KPIs. `region` is the key in dim_region, `region_code` its code."""

    start: date | None
    end: date | None
    region: int | None = None
    region_code: str = ""

    def facts(self, **lookups: Any) -> str:
        """Return the address of the list of its fact rows, narrowed by `lookups`."""
        period = {
            "date__gte": self.start and to_date_key(self.start),
            "date__lte": self.end and to_date_key(self.end),
            "region__exact": self.region,
        }
        chosen = {name: value for name, value in (period | lookups).items() if value is not None}
        return f"{reverse('admin:dwh_factsales_changelist')}?{urlencode(chosen)}"

    def balances(self, side: Side) -> str:
        """Return the address of the list of its orders that are paid less, or more, than their net."""
        days = {"start": str(self.start or ""), "end": str(self.end or "")}
        chosen = {"side": side.value, "region": self.region_code} | days
        return f"{reverse('admin:dwh_factsales_balances')}?{urlencode(chosen)}"

    def month_facts(self, year: int, month: int) -> str:
        first, last = date(year, month, 1), date(year, month, monthrange(year, month)[1])
        return self.facts(date__gte=to_date_key(max(first, self.start or first)), date__lte=to_date_key(min(last, self.end or last)))


@dataclass(frozen=True)
class Line:
    name: str
    href: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Figure:
    title: str
    chart: Chart
    columns: Sequence[str]
    lines: Sequence[Line]
    wide: bool = False


def figures(report: Report, period: Period, names_people: bool) -> list[Figure]:
    """Return the KPIs' figures. Without `names_people` managers have a number instead of a name, which is personal data."""
    named = report.employees if names_people else [replace(share, name=_("Employee %s") % share.key) for share in report.employees]
    managers = localize_names(named, _("No manager (web)"))
    return [
        make_month_figure(report, period),
        make_share_figure(_("Orders by region"), _("Region"), localize_names(report.regions), "region", period, ORDERS),
        make_share_figure(_("Payment methods"), _("Method"), localize_names(report.methods), "payment_method", period, REVENUE),
        make_share_figure(_("Top 10 products"), _("Product"), localize_names(report.products), "product", period, MARGIN),
        make_share_figure(_("Revenue by category"), _("Category"), localize_names(report.categories), "category", period, MARGIN),
        replace(make_share_figure(_("Sales by manager"), _("Manager"), managers, "employee", period, REVENUE), wide=True),
    ]


def make_month_figure(report: Report, period: Period) -> Figure:
    months = fill_gaps(report.months)
    names = [date_format(date(month.year, month.month, 1), "M Y") for month in months]
    series = [Series(_("Revenue, UAH"), [month.net for month in months]), Series(_("Margin, UAH"), [month.margin for month in months])]
    lines = [
        Line(
            name,
            period.month_facts(month.year, month.month),
            (localize_uah(month.net), localize_uah(month.margin), localize_count(month.orders)),
        )
        for name, month in zip(names, months, strict=True)
    ]
    columns = (_("Month"), _("Revenue"), _("Margin"), _("Orders"))
    return Figure(_("Revenue and margin by month"), Chart("line", names, series), columns, lines, wide=True)


def fill_gaps(months: Sequence[Month]) -> list[Month]:
    """Return the months with empty ones for those without sales, over which the line would run otherwise."""
    sold = {month.year * 12 + month.month - 1: month for month in months}
    numbers = range(min(sold), max(sold) + 1) if sold else ()
    return [sold.get(number, Month(number // 12, number % 12 + 1, ZERO_UAH, ZERO_UAH, 0)) for number in numbers]


def make_share_figure(title: str, heading: str, shares: Sequence[Share], column: str, period: Period, kind: str) -> Figure:
    """Return a bar chart of orders or revenue. Products show no orders, because one order may have several products."""
    series = (
        Series(_("Orders"), [share.orders for share in shares])
        if kind == ORDERS
        else Series(_("Revenue, UAH"), [share.net for share in shares])
    )
    columns = (_("Revenue"), _("Margin")) if kind == MARGIN else (_("Revenue"), _("Orders"), _("Average order"))
    lines = [Line(share.name, period.facts(**{f"{column}__exact": share.key}), cells(share, kind)) for share in shares]
    return Figure(title, Chart("bar", [share.name for share in shares], [series], horizontal=True), (heading, *columns), lines)


def cells(share: Share, kind: str) -> tuple[str, ...]:
    return (
        (localize_uah(share.net), localize_uah(share.margin))
        if kind == MARGIN
        else (localize_uah(share.net), localize_count(share.orders), localize_uah(share.average_order))
    )


def localize_names(shares: Sequence[Share], not_applicable: str = "") -> list[Share]:
    """Translate payment methods and the special rows of dimensions. `not_applicable`: the name of that row in this dimension."""
    names: dict[int | str, Any] = {UNKNOWN: _("unknown"), NOT_APPLICABLE: not_applicable or _("not applicable")}
    return [replace(share, name=str(names.get(share.key) or METHODS.get(share.key, share.name))) for share in shares]
