"""The SQL of the KPIs: two views that the admin, the printed report, `manage.py kpis` and Metabase read.

Each keeps the columns that people filter by, day and region. A reader filters, then sums:

=====================================  ==========  ====================================================
KPI                                    view        sums, and what they are grouped by
=====================================  ==========  ====================================================
net, gross, discount, margin by month  kpi_orders  net_amount, gross_amount, ... by year, month
orders and revenue by region           kpi_orders  orders, net_amount by region
results by manager                     kpi_orders  net_amount, orders by manager
payment methods                        kpi_orders  net_amount, orders by payment_method
top products, revenue by category      kpi_lines   net_amount, margin_amount by product, by category
outstanding, overpaid                  kpi_orders  outstanding_amount, overpaid_amount, and the orders of each
average order                          either      net_amount / orders
margin %                               either      margin_amount / net_amount
paid %                                 kpi_orders  (net_amount - outstanding_amount) / net_amount
=====================================  ==========  ====================================================

What one order was paid too much settles no other order's debt: net_amount - paid_amount must not be summed over orders.

Money is UAH. It is exact on PostgreSQL; SQLite sums floats, so a reader rounds what it has summed there to the kopiyka.
apps/warehouse/view_updates.py creates the views after every migration.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """`columns`: what each column holds, in the order of `query`, whose SQL PostgreSQL and SQLite both take."""

    name: str
    comment: str
    columns: Mapping[str, str]
    query: str

    @property
    def create(self) -> str:
        return f"CREATE VIEW {self.name} AS\n{self.query}"

    def comments(self) -> Iterator[str]:
        """Yield the statements that describe the view and its columns; SQLite has no such statement."""
        yield f"COMMENT ON VIEW {self.name} IS {quote(self.comment)}"
        for column, comment in self.columns.items():
            yield f"COMMENT ON COLUMN {self.name}.{column} IS {quote(comment)}"


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


FILTERS = {
    "date_key": "day of the order as YYYYMMDD",
    "date": "day of the order, in the shop's time zone",
    "year": "year of the day, four digits",
    "month": "month of the day, 1 to 12",
    "region_key": "dim_region.region_key",
    "region_code": "short code of the region where it was sold",
    "region": "name of the region where it was sold",
}

# Grouped by order first, since each order has its own balance; that takes 2.4 to 3.1 s
# of 800 000 lines where counting distinct orders took 1.7 s. Names are joined
# afterwards, so that they are not sorted with the lines (2.5 million lines, one year of three: 3.1 s instead of 4.3 s, and 3.7 s without
# a view; the best of two or three runs on a busy two-core machine, as all times here). PostgreSQL applies a condition on date_key, date,
# year, month, region_key, employee_key or payment_method before the grouping, because both inner queries group by them; one on a name is
# applied after it. Rounded, because SQLite's sums of an order that is paid differ in the last bits.
KPI_ORDERS = View(
    name="kpi_orders",
    comment=(
        "Sales by day, region, manager and payment method. An order has one of each, so its lines are in one row and orders add up "
        "over any rows."
    ),
    columns=FILTERS
    | {
        "employee_key": "dim_employee.employee_key; -2 where no employee took part (web order)",
        "manager": "name of the employee who sold",
        "payment_method": "the single captured method, 'mixed', or 'none'",
        "orders": "number of orders",
        "gross_amount": "unit price x quantity, UAH",
        "discount_amount": "discount, UAH",
        "net_amount": "net revenue: gross - discount, UAH",
        "margin_amount": "net - cost of the lines whose cost is known, UAH",
        "paid_amount": "captured - refunded payments, UAH",
        "outstanding_amount": "net - paid of the orders that are paid less than their net, UAH",
        "outstanding_orders": "number of these orders",
        "overpaid_amount": "paid - net of the orders that are paid more than their net, UAH",
        "overpaid_orders": "number of these orders",
    },
    query="""\
SELECT
    s.date_key,
    s.date,
    s.year,
    s.month,
    s.region_key,
    r.code AS region_code,
    r.name AS region,
    s.employee_key,
    CASE WHEN e.employee_key < 0 THEN e.last_name ELSE e.first_name || ' ' || e.last_name END AS manager,
    s.payment_method,
    s.orders,
    s.gross_amount,
    s.discount_amount,
    s.net_amount,
    s.margin_amount,
    s.paid_amount,
    s.outstanding_amount,
    s.outstanding_orders,
    s.overpaid_amount,
    s.overpaid_orders
FROM (
    SELECT
        o.date_key,
        o.date,
        o.year,
        o.month,
        o.region_key,
        o.employee_key,
        o.payment_method,
        CAST(count(*) AS integer) AS orders,
        round(sum(o.gross_amount), 2) AS gross_amount,
        round(sum(o.discount_amount), 2) AS discount_amount,
        round(sum(o.net_amount), 2) AS net_amount,
        coalesce(round(sum(o.margin_amount), 2), 0) AS margin_amount,
        round(sum(o.paid_amount), 2) AS paid_amount,
        round(sum(CASE WHEN o.balance > 0 THEN o.balance ELSE 0 END), 2) AS outstanding_amount,
        CAST(count(CASE WHEN o.balance > 0 THEN 1 END) AS integer) AS outstanding_orders,
        round(sum(CASE WHEN o.balance < 0 THEN -o.balance ELSE 0 END), 2) AS overpaid_amount,
        CAST(count(CASE WHEN o.balance < 0 THEN 1 END) AS integer) AS overpaid_orders
    FROM (
        SELECT
            f.date_key,
            d.date,
            d.year,
            d.month,
            f.region_key,
            f.employee_key,
            f.payment_method,
            sum(f.gross_amount) AS gross_amount,
            sum(f.discount_amount) AS discount_amount,
            sum(f.net_amount) AS net_amount,
            sum(f.margin_amount) AS margin_amount,
            sum(f.paid_amount) AS paid_amount,
            round(sum(f.net_amount) - sum(f.paid_amount), 2) AS balance
        FROM fact_sales AS f
        JOIN dim_date AS d ON d.date_key = f.date_key
        GROUP BY f.order_id, f.date_key, d.date_key, d.date, d.year, d.month, f.region_key, f.employee_key, f.payment_method
    ) AS o
    GROUP BY o.date_key, o.date, o.year, o.month, o.region_key, o.employee_key, o.payment_method
) AS s
JOIN dim_region AS r ON r.region_key = s.region_key
JOIN dim_employee AS e ON e.employee_key = s.employee_key""",
)

# Not grouped: grouping 2.5 million lines by day and product took 10 s, and summing them directly 2.8 s. For the same reason the totals of
# a period are read here (a year: 1.8 s, from kpi_orders 3.5 s). With LEFT JOIN, PostgreSQL leaves out a dimension of which a query names no
# column; every key has its row, so no line is lost or doubled.
KPI_LINES = View(
    name="kpi_lines",
    comment=(
        "Order lines with their day, region, product and category. Orders are count(DISTINCT order_id); by product or category they do not "
        "add up, since an order may have several of them."
    ),
    columns=FILTERS
    | {
        "order_id": "orders.id: the order of the line",
        "product_key": "dim_product.product_key",
        "product": "name of the product",
        "category_key": "dim_category.category_key",
        "category": "name of the product's category",
        "gross_amount": "unit price x quantity, UAH",
        "discount_amount": "discount, UAH",
        "net_amount": "net revenue: gross - discount, UAH",
        "margin_amount": "net - cost, UAH; empty where the cost is unknown",
        "paid_amount": "the line's share of captured - refunded payments, UAH",
    },
    query="""\
SELECT
    f.date_key,
    d.date,
    d.year,
    d.month,
    f.region_key,
    r.code AS region_code,
    r.name AS region,
    f.order_id,
    f.product_key,
    p.name AS product,
    f.category_key,
    c.name AS category,
    f.gross_amount,
    f.discount_amount,
    f.net_amount,
    f.margin_amount,
    f.paid_amount
FROM fact_sales AS f
LEFT JOIN dim_date AS d ON d.date_key = f.date_key
LEFT JOIN dim_region AS r ON r.region_key = f.region_key
LEFT JOIN dim_product AS p ON p.product_key = f.product_key
LEFT JOIN dim_category AS c ON c.category_key = f.category_key""",
)

VIEWS = (KPI_ORDERS, KPI_LINES)
