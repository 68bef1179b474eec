"""Loads the same tables with a common pandas script: read_sql, merge, to_sql. peers.py runs it in a separate Python.

Every dimension and the fact, without keys, indexes, checks or a ledger.
"""

import os

import pandas as pd
from sqlalchemy import create_engine


def engine(variable: str, driver: str):
    return create_engine(driver + "://" + os.environ[variable].split("://", 1)[1])


sources = {name: engine(f"{name.upper()}_DB_URL", "mysql+pymysql") for name in ("auth", "catalog", "orders", "payments")}
warehouse = engine("DWH_URL", "postgresql+psycopg2")


def read(source: str, query: str) -> pd.DataFrame:
    return pd.read_sql(query, sources[source])


def write(frame: pd.DataFrame, table: str) -> None:
    frame.to_sql(table, warehouse, schema="pandas_way", if_exists="replace", index=False, chunksize=10_000)


regions = read("orders", "SELECT id AS region_key, code, name FROM regions")
employees = read("orders", "SELECT id AS employee_key, first_name, last_name, email, region_id, hired_at FROM employees")
customers = read("orders", "SELECT id AS customer_key, first_name, last_name, email, region_id, created_at AS registered_at FROM customers")
accounts = read("auth", "SELECT customer_id AS customer_key, status AS account_status FROM auth_users WHERE customer_id IS NOT NULL")
categories = read("catalog", "SELECT id AS category_key, name, parent_id FROM categories")
products = read("catalog", "SELECT id AS product_key, name, sku, category_id AS category_key, price, cost, status FROM products")

orders = read(
    "orders",
    "SELECT id AS order_id, customer_id, employee_id, region_id, order_date, status FROM orders WHERE status IN ('paid', 'shipped')",
)
lines = read("orders", "SELECT id AS order_item_id, order_id, product_id, quantity, unit_price, discount FROM order_items")
payments = read("payments", "SELECT order_id, method, status, amount, paid_at FROM payments WHERE status = 'captured'")

paid = (
    payments.sort_values("paid_at")
    .groupby("order_id", as_index=False)
    .agg(paid_amount=("amount", "sum"), payment_method=("method", "last"), paid_at=("paid_at", "last"))
)
facts = lines.merge(orders, on="order_id").merge(paid, on="order_id", how="left")
facts = facts.merge(products[["product_key", "category_key", "cost"]], left_on="product_id", right_on="product_key", how="left")
facts["gross_amount"] = facts["quantity"] * facts["unit_price"]
facts["net_amount"] = facts["gross_amount"] - facts["discount"]
facts["cost_amount"] = facts["quantity"] * facts["cost"]
facts["margin_amount"] = facts["net_amount"] - facts["cost_amount"]
facts["date_key"] = pd.to_datetime(facts["order_date"]).dt.tz_localize("UTC").dt.tz_convert("Europe/Kyiv").dt.strftime("%Y%m%d").astype(int)
dates = pd.DataFrame({"date": pd.date_range("2020-01-01", "2028-12-31")})
dates["date_key"] = dates["date"].dt.strftime("%Y%m%d").astype(int)

for frame, table in (
    (dates, "dim_date"),
    (regions, "dim_region"),
    (categories, "dim_category"),
    (products, "dim_product"),
    (customers.merge(accounts, on="customer_key", how="left"), "dim_customer"),
    (employees, "dim_employee"),
    (facts, "fact_sales"),
):
    write(frame, table)
