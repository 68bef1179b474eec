"""The questions that Metabase answers: the KPI views of apps/warehouse/kpi_sql.py, filtered and summed.

`{{name}}` is a Metabase variable, and Metabase leaves out what stands in `[[ ]]` while its variable has no value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

START, END, REGION = "start", "end", "region"
WHERE = """\
WHERE TRUE
[[AND date >= CAST({{start}} AS date)]]
[[AND date <= CAST({{end}} AS date)]]
[[AND region = {{region}}]]"""
MEASURES = {
    "revenue": "coalesce(sum(net_amount), 0)",
    "gross": "sum(gross_amount)",
    "discount": "sum(discount_amount)",
    "margin": "coalesce(sum(margin_amount), 0)",
    "orders": "coalesce(sum(orders), 0)",
    "average_order": "coalesce(round(sum(net_amount) / nullif(sum(orders), 0), 2), 0)",
    "margin_percent": "coalesce(round(sum(margin_amount) * 100 / nullif(sum(net_amount), 0), 1), 0)",
    "paid_percent": "coalesce(round((sum(net_amount) - sum(outstanding_amount)) * 100 / nullif(sum(net_amount), 0), 1), 0)",
    "outstanding": "coalesce(sum(outstanding_amount), 0)",
    "overpaid": "coalesce(sum(overpaid_amount), 0)",
}
COLUMN_TITLES = {
    "revenue": _("Revenue, UAH"),
    "gross": _("Gross, UAH"),
    "discount": _("Discount, UAH"),
    "margin": _("Margin, UAH"),
    "orders": _("Orders"),
    "average_order": _("Average order, UAH"),
    "month": _("Month"),
    "region": _("Region"),
    "method": _("Payment method"),
    "product": _("Product"),
    "category": _("Category"),
    "manager": _("Manager"),
    "outstanding": _("Outstanding, UAH"),
    "overpaid": _("Overpaid, UAH"),
    "order_id": _("Order"),
    "day": _("Day"),
    "net": _("Net, UAH"),
    "paid": _("Paid, UAH"),
}
SIDES = ("outstanding", "overpaid")
# The orders of both sides, the largest balance first: what one was paid too much settles no other.
BALANCES = f"""\
SELECT order_id, min(date) AS day, min(region) AS region, sum(net_amount) AS net, sum(paid_amount) AS paid,
    greatest(sum(net_amount) - sum(paid_amount), 0) AS outstanding, greatest(sum(paid_amount) - sum(net_amount), 0) AS overpaid
FROM kpi_lines
{WHERE}
GROUP BY order_id
HAVING sum(net_amount) <> sum(paid_amount)
ORDER BY abs(sum(net_amount) - sum(paid_amount)) DESC, order_id"""


@dataclass(frozen=True)
class Question:
    """One card. `slug` identifies it whatever people call it. `columns` are those of `sql`; a chart's x axis is the first of them.

    `series`: the columns that the chart draws. `settings`: more of Metabase's visualization settings.
    """

    slug: str
    name: Any
    sql: str
    columns: Sequence[str]
    display: str = "scalar"
    series: Sequence[str] = ()
    filtered: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


def select_measures(*names: str) -> str:
    return ", ".join(f"{MEASURES[name]} AS {name}" for name in names)


def total(measure: str, name: Any, **options: Any) -> Question:
    """Return a card with one number."""
    return Question(measure, name, f"SELECT {select_measures(measure)}\nFROM kpi_orders\n{WHERE}", (measure,), **options)


def percentage(measure: str, name: Any) -> Question:
    return total(measure, name, settings={"column_settings": {f'["name","{measure}"]': {"suffix": " %"}}})


def ranking(column: str, name: Any, value: str, key: str, measures: Sequence[str], view: str, series: str = "revenue") -> Question:
    """Return a card of `measures` by `value`, the largest revenue first. No `series`: a table.

    The groups are those of `key`: names may be equal, and would make the rows to be sorted wide.
    """
    sql = (
        f"SELECT min({value}) AS {column}, {select_measures(*measures)}\nFROM {view}\n{WHERE}\n"
        f"GROUP BY {key}\nORDER BY revenue DESC, {column}"
    )
    return Question(f"by_{column}", name, sql, (column, *measures), "row" if series else "table", (series,) if series else ())


def rank_orders(column: str, name: Any, value: str, key: str, **options: Any) -> Question:
    return ranking(column, name, value, key, ("revenue", "orders", "average_order"), "kpi_orders", **options)


def rank_products(column: str, name: Any, key: str) -> Question:
    """Without orders, which do not add up by product or category."""
    return ranking(column, name, column, key, ("revenue", "margin"), "kpi_lines")


def questions() -> list[Question]:
    """Return the questions in the order of the dashboard."""
    by_month = ("revenue", "gross", "discount", "margin", "orders")
    top_products = rank_products("product", _("Top 10 products"), "product_key")
    return [
        Question(
            "data_as_of",
            _("Data as of"),
            f"SELECT as_of AT TIME ZONE '{settings.SHOP_TIME_ZONE}' AS data_as_of\nFROM data_as_of",
            ("data_as_of",),
            filtered=False,
        ),
        total("revenue", _("Net revenue, UAH")),
        total("orders", _("Orders")),
        total("average_order", _("Average order, UAH")),
        percentage("margin_percent", _("Margin of revenue, %")),
        percentage("paid_percent", _("Paid of revenue, %")),
        total("outstanding", _("Outstanding, UAH")),
        total("overpaid", _("Overpaid, UAH")),
        Question("balances", _("Orders outstanding or overpaid"), BALANCES, ("order_id", "day", "region", "net", "paid", *SIDES), "table"),
        Question(
            "by_month",
            _("Revenue, gross, discount and margin by month"),
            f"SELECT CAST(date_trunc('month', date) AS date) AS month, {select_measures(*by_month)}\n"
            f"FROM kpi_orders\n{WHERE}\nGROUP BY 1\nORDER BY 1",
            ("month", *by_month),
            "line",
            ("revenue", "gross", "discount", "margin"),
            settings={"graph.x_axis.scale": "timeseries", "line.missing": "zero"},
        ),
        rank_orders("region", _("Orders and revenue by region"), "region", "region_key", series="orders"),
        rank_orders("method", _("Payment methods"), "payment_method", "payment_method"),
        replace(top_products, sql=f"{top_products.sql}\nLIMIT 10"),
        rank_products("category", _("Revenue by category"), "category_key"),
        rank_orders("manager", _("Results by manager"), "manager", "employee_key", series=""),
        Question(
            "regions",
            _("Regions"),
            "SELECT name AS region\nFROM dim_region\nWHERE region_key > 0\nORDER BY 1",
            ("region",),
            "table",
            filtered=False,
        ),
    ]
