"""What Metabase asks of the star: the KPIs of apps/warehouse/kpis.py and report.py in SQL, number for number.

`{{name}}` is a variable of Metabase's, and what stands in `[[ ]]` is left out where its variable has no value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

START, END, REGION = "start", "end", "region"
SCOPE = """\
JOIN dim_date AS d ON d.date_key = f.date_key
JOIN dim_region AS r ON r.region_key = f.region_key
WHERE TRUE
[[AND d.date >= CAST({{start}} AS date)]]
[[AND d.date <= CAST({{end}} AS date)]]
[[AND r.name = {{region}}]]"""
NET = "coalesce(sum(f.net_amount), 0)"
MARGIN = "coalesce(sum(f.margin_amount), 0)"
ORDERS = "count(DISTINCT f.order_id)"
AVERAGE = f"coalesce(round(sum(f.net_amount) / nullif({ORDERS}, 0), 2), 0)"
WORDS = {
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
}


@dataclass(frozen=True)
class Question:
    """`slug` is its name for us, whatever people call it. `columns` are those of `sql`; the first is what a chart is drawn along."""

    slug: str
    name: Any
    sql: str
    columns: Sequence[str]
    display: str = "scalar"
    drawn: Sequence[str] = ()
    filtered: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


def total(slug: str, name: Any, value: str, **options: Any) -> Question:
    return Question(slug, name, f"SELECT {value} AS {slug}\nFROM fact_sales AS f\n{SCOPE}", (slug,), **options)


def share(slug: str, name: Any, part: str) -> Question:
    """Of the net revenue, in percent."""
    percent = f"coalesce(round(sum(f.{part}) * 100 / nullif(sum(f.net_amount), 0), 1), 0)"
    return total(slug, name, percent, settings={"column_settings": {f'["name","{slug}"]': {"suffix": " %"}}})


def of_orders(column: str, name: Any, member: str, join: str = "", **options: Any) -> Question:
    """Revenue, orders and their average by `member`."""
    return by(column, name, member, join, {"orders": ORDERS, "average_order": AVERAGE}, **options)


def of_goods(column: str, name: Any, member: str, join: str, **options: Any) -> Question:
    """Revenue and margin by `member`: what is in one order may be in several, so that orders do not add up."""
    return by(column, name, member, join, {"margin": MARGIN}, **options)


def by(
    column: str, name: Any, member: str, join: str, measures: Mapping[str, str], key: str = "", drawn: str = "revenue", limit: str = ""
) -> Question:
    """The largest revenue first. `key` tells members of one name apart. Without anything to draw it is a table."""
    sums = ", ".join(f"{value} AS {measure}" for measure, value in measures.items())
    sql = (
        f"SELECT {member} AS {column}, {NET} AS revenue, {sums}\nFROM fact_sales AS f\n{join}{SCOPE}\n"
        f"GROUP BY {', '.join(filter(None, (key, member)))}\nORDER BY revenue DESC, {column}{limit}"
    )
    return Question(f"by_{column}", name, sql, (column, "revenue", *measures), "row" if drawn else "table", (drawn,) if drawn else ())


def questions() -> list[Question]:
    """In the order of the dashboard."""
    return [
        Question(
            "data_as_of",
            _("Data as of"),
            f"SELECT as_of AT TIME ZONE '{settings.SHOP_TIME_ZONE}' AS data_as_of\nFROM data_as_of",
            ("data_as_of",),
            filtered=False,
        ),
        total("revenue", _("Net revenue, UAH"), NET),
        total("orders", _("Orders"), ORDERS),
        total("average_order", _("Average order, UAH"), AVERAGE),
        share("margin_percent", _("Margin of revenue, %"), "margin_amount"),
        share("paid_percent", _("Paid of revenue, %"), "paid_amount"),
        Question(
            "by_month",
            _("Revenue, gross, discount and margin by month"),
            f"SELECT date_trunc('month', d.date)::date AS month, {NET} AS revenue, sum(f.gross_amount) AS gross,\n"
            f"  sum(f.discount_amount) AS discount, {MARGIN} AS margin, {ORDERS} AS orders\n"
            f"FROM fact_sales AS f\n{SCOPE}\nGROUP BY 1\nORDER BY 1",
            ("month", "revenue", "gross", "discount", "margin", "orders"),
            "line",
            ("revenue", "gross", "discount", "margin"),
            settings={"graph.x_axis.scale": "timeseries", "line.missing": "zero"},
        ),
        of_orders("region", _("Orders and revenue by region"), "r.name", key="f.region_key", drawn="orders"),
        of_orders("method", _("Payment methods"), "f.payment_method"),
        of_goods(
            "product",
            _("Ten best products"),
            "p.name",
            "JOIN dim_product AS p ON p.product_key = f.product_key\n",
            key="f.product_key",
            limit="\nLIMIT 10",
        ),
        of_goods(
            "category",
            _("Revenue by category"),
            "c.name",
            "JOIN dim_category AS c ON c.category_key = f.category_key\n",
            key="f.category_key",
        ),
        of_orders(
            "manager",
            _("Results by manager"),
            "CASE WHEN f.employee_key < 0 THEN e.last_name ELSE concat(e.first_name, ' ', e.last_name) END",
            "JOIN dim_employee AS e ON e.employee_key = f.employee_key\n",
            key="f.employee_key",
            drawn="",
        ),
        Question(
            "regions",
            _("Regions"),
            "SELECT name AS region\nFROM dim_region\nWHERE region_key > 0\nORDER BY 1",
            ("region",),
            "table",
            filtered=False,
        ),
    ]
