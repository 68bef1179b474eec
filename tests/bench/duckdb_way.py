"""Makes the same star in SQL with DuckDB's MySQL and PostgreSQL extensions. peers.py runs it in a separate Python.

Six dimensions and the fact into the tables of schema duckdb_way, which have our columns; then the keys and indexes that ours have.
It does without: rejected rows (bad input ends it), holidays, a ledger, checks, fingerprints, incremental runs, and one transaction for all.
"""

import importlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import duckdb

SCHEMA = "duckdb_way"
EXTENSIONS = ("mysql_scanner", "postgres_scanner")
SOURCES = {"auth": "AUTH_DB_URL", "catalog": "CATALOG_DB_URL", "orders": "ORDERS_DB_URL", "payments": "PAYMENTS_DB_URL"}
# Columns that every dimension has besides its own.
EVERY_ROW = "1 AS run_id, false AS is_deleted, false AS is_inferred"
DIMENSIONS = {
    "dim_date": """
        SELECT year(day) * 10000 + month(day) * 100 + day(day) AS date_key, day AS date, year(day) AS year, quarter(day) AS quarter,
            month(day) AS month, monthname(day) AS month_name, weekofyear(day) AS iso_week, day(day) AS day, isodow(day) AS day_of_week,
            isodow(day) > 5 AS is_weekend, false AS is_holiday
        FROM (SELECT unnest(generate_series(DATE '2020-01-01', make_date(year(today()) + 2, 12, 31), INTERVAL 1 DAY))::DATE AS day)
        UNION ALL BY NAME SELECT key AS date_key, label AS month_name, false AS is_weekend, false AS is_holiday FROM special
    """,
    "dim_region": """
        SELECT row_number() OVER (ORDER BY id) AS region_key, id AS region_id, code, name FROM orders.regions
        UNION ALL BY NAME SELECT key AS region_key, short_label AS code, label AS name FROM special
    """,
    "dim_category": """
        WITH categories AS (SELECT row_number() OVER (ORDER BY id) AS key, id, name, parent_id FROM catalog.categories)
        SELECT child.key AS category_key, child.id AS category_id, child.name,
            CASE WHEN child.parent_id IS NULL THEN -2 ELSE coalesce(parent.key, -1) END AS parent_category_key,
            CASE WHEN child.parent_id IS NULL THEN child.name ELSE coalesce(parent.name, 'Unknown') END AS root_name
        FROM categories AS child LEFT JOIN categories AS parent ON parent.id = child.parent_id
        UNION ALL BY NAME SELECT key AS category_key, label AS name, key AS parent_category_key, label AS root_name FROM special
    """,
    "dim_product": """
        SELECT row_number() OVER (ORDER BY p.id) AS product_key, p.id AS product_id, p.name, p.sku, p.price, p.cost, p.status,
            coalesce(c.category_key, -1) AS category_key, coalesce(c.name, 'Unknown') AS category_name,
            coalesce(c.root_name, 'Unknown') AS root_category_name
        FROM catalog.products AS p LEFT JOIN dim_category AS c USING (category_id)
        UNION ALL BY NAME SELECT key AS product_key, label AS name, label AS sku, key AS category_key, label AS category_name,
            label AS root_category_name, label AS status FROM special
    """,
    "dim_customer": """
        SELECT row_number() OVER (ORDER BY c.id) AS customer_key, c.id AS customer_id, c.first_name, c.last_name, c.email,
            coalesce(r.region_key, -1) AS region_key, coalesce(u.status, 'none') AS account_status, c.created_at AS registered_at
        FROM orders.customers AS c LEFT JOIN dim_region AS r USING (region_id) LEFT JOIN auth.auth_users AS u ON u.customer_id = c.id
        UNION ALL BY NAME SELECT key AS customer_key, label AS first_name, label AS last_name, label AS email, key AS region_key,
            label AS account_status FROM special
    """,
    "dim_employee": """
        SELECT row_number() OVER (ORDER BY e.id) AS employee_key, e.id AS employee_id, e.first_name, e.last_name, e.email,
            coalesce(r.region_key, -1) AS region_key, e.is_manager, e.hired_at, coalesce(granted.roles, '') AS roles
        FROM orders.employees AS e LEFT JOIN dim_region AS r USING (region_id) LEFT JOIN (
            SELECT u.employee_id, string_agg(role.name, ',' ORDER BY role.name) AS roles
            FROM auth.auth_users AS u JOIN auth.user_roles AS g ON g.user_id = u.id JOIN auth.roles AS role ON role.id = g.role_id
            WHERE u.employee_id IS NOT NULL GROUP BY u.employee_id
        ) AS granted ON granted.employee_id = e.id
        UNION ALL BY NAME SELECT key AS employee_key, label AS first_name, label AS last_name, label AS email, key AS region_key,
            false AS is_manager, label AS roles FROM special
    """,
}
# Payments are summed before they meet the lines; an order's lines share them by largest remainder, in whole kopiykas.
FACT = """
    WITH payment AS (
        SELECT order_id, (sum(CASE status WHEN 'captured' THEN amount ELSE -amount END) * 100)::BIGINT AS paid,
            min(method) FILTER (status = 'captured') AS first_method, max(method) FILTER (status = 'captured') AS last_method,
            max(paid_at) FILTER (status = 'captured') AS paid_at
        FROM payments.payments WHERE status IN ('captured', 'refunded') GROUP BY order_id
    ), line AS (
        SELECT i.id, i.order_id, i.product_id, i.quantity, i.discount, i.quantity * i.unit_price AS gross, gross - i.discount AS net,
            (net * 100)::BIGINT AS weight, sum(weight) OVER of_order AS weights, count(*) OVER of_order AS lines,
            o.status, o.order_date, o.customer_id, o.employee_id, o.region_id, abs(coalesce(p.paid, 0)) AS paid,
            sign(coalesce(p.paid, 0)) AS direction, p.first_method, p.last_method, p.paid_at
        FROM orders.order_items AS i
        JOIN (FROM orders.orders WHERE status IN ('paid', 'shipped')) AS o ON o.id = i.order_id
        LEFT JOIN payment AS p ON p.order_id = i.order_id
        WINDOW of_order AS (PARTITION BY i.order_id)
    ), share AS (
        SELECT *, paid * (CASE weights WHEN 0 THEN 1 ELSE weight END) AS product,
            (CASE weights WHEN 0 THEN lines ELSE weights END)::BIGINT AS divisor, product // divisor AS kopiykas
        FROM line
    ), paid AS (
        SELECT *, paid - sum(kopiykas) OVER (PARTITION BY order_id) AS missing,
            row_number() OVER (PARTITION BY order_id ORDER BY product % divisor DESC, id) AS place
        FROM share
    )
    SELECT paid.id AS order_item_id, order_id, paid.status AS order_status,
        CASE WHEN first_method IS NULL THEN 'none' WHEN first_method = last_method THEN first_method ELSE 'mixed' END AS payment_method,
        quantity, gross AS gross_amount, discount AS discount_amount, net AS net_amount, product.cost AS unit_cost,
        quantity * product.cost AS cost_amount, net - cost_amount AS margin_amount,
        (direction * (kopiykas + (place <= missing)::BIGINT))::DECIMAL(18, 0) * 0.01 AS paid_amount,
        paid_at::TIMESTAMPTZ AS paid_at, order_date::TIMESTAMPTZ AS ordered_at,
        timezone('Europe/Kyiv', ordered_at) AS shop_time,
        year(shop_time) * 10000 + month(shop_time) * 100 + day(shop_time) AS date_key,
        coalesce(product.product_key, -1) AS product_key, coalesce(product.category_key, -1) AS category_key,
        coalesce(customer.customer_key, -1) AS customer_key, coalesce(region.region_key, -1) AS region_key,
        CASE WHEN paid.employee_id IS NULL THEN -2 ELSE coalesce(employee.employee_key, -1) END AS employee_key, 1 AS run_id
    FROM paid LEFT JOIN dim_product AS product USING (product_id) LEFT JOIN dim_customer AS customer USING (customer_id)
    LEFT JOIN dim_employee AS employee USING (employee_id) LEFT JOIN dim_region AS region ON region.region_id = paid.region_id
"""
KEYS = {name: f"{name.removeprefix('dim_')}_key" for name in DIMENSIONS}
INDEXED = ("order_id", "date_key", "product_key")


def main() -> None:
    database = duckdb.connect()
    load_extensions(database)
    for name, variable in SOURCES.items():
        attach(database, name, "mysql", variable, ", READ_ONLY")
    attach(database, "dwh", "postgres", "DWH_URL")
    database.execute("SET TimeZone = 'UTC'")
    database.execute(
        "CREATE TEMP TABLE special AS FROM (VALUES (-1, 'Unknown', 'Unknown'), (-2, 'Not applicable', 'N/A')) AS s(key, label, short_label)"
    )
    for table, query in DIMENSIONS.items():
        database.execute(f"CREATE TEMP TABLE {table} AS {query}")
        database.execute(f"INSERT INTO dwh.{SCHEMA}.{table} BY NAME SELECT *, {EVERY_ROW} FROM {table}")
    database.execute(f"INSERT INTO dwh.{SCHEMA}.fact_sales BY NAME SELECT * EXCLUDE (shop_time) FROM ({FACT})")
    database.execute("CALL postgres_execute('dwh', $statements$" + "; ".join(key_statements()) + "$statements$)")


def load_extensions(database: duckdb.DuckDBPyConnection) -> None:
    """Load the extensions from the files in their packages; nothing is downloaded."""
    database.execute("SET autoinstall_known_extensions = false")
    for name in EXTENSIONS:
        package = Path(str(importlib.import_module(f"duckdb_extension_{name}").__file__)).parent
        database.execute(f"LOAD '{package}/extensions/v{duckdb.__version__}/{name}.duckdb_extension'")


def attach(database: duckdb.DuckDBPyConnection, name: str, kind: str, variable: str, options: str = "") -> None:
    """Attach a server's database by a secret, which no error message quotes as it would an address."""
    address = urlsplit(os.environ[variable])
    values = {"HOST": address.hostname, "USER": address.username, "PASSWORD": address.password, "DATABASE": address.path.strip("/")}
    quoted = ", ".join(f"{key} '{unquote(value or '').replace("'", "''")}'" for key, value in values.items())
    database.execute(f"CREATE SECRET {name}_secret (TYPE {kind}, PORT {address.port}, {quoted})")
    database.execute(f"ATTACH '' AS {name} (TYPE {kind}, SECRET {name}_secret{options})")


def key_statements() -> list[str]:
    """Return the keys, indexes and foreign keys that our tables have."""
    fact = f"{SCHEMA}.fact_sales"
    return [
        "SET LOCAL maintenance_work_mem = '256MB'",
        *(f"ALTER TABLE {SCHEMA}.{table} ADD PRIMARY KEY ({key})" for table, key in KEYS.items()),
        f"ALTER TABLE {fact} ADD PRIMARY KEY (order_item_id)",
        *(f"CREATE INDEX ON {fact} ({column})" for column in INDEXED),
        *(f"ALTER TABLE {fact} ADD FOREIGN KEY ({key}) REFERENCES {SCHEMA}.{table} ({key})" for table, key in KEYS.items()),
        *(f"ANALYZE {SCHEMA}.{table}" for table in (*KEYS, "fact_sales")),
    ]


if __name__ == "__main__":
    main()
