"""The floor, a lower bound: an unbuffered SELECT of each of three tables piped to psql's COPY, one after another."""

import os

from tests.bench.harness import FOLDER, client_options, database_name, password, run_sql
from tests.bench.measure import Cost, add_costs, measure
from tests.servers import program

MONEY, INSTANT = "numeric(12,2)", "timestamp(6)"
ROW = f"id bigint PRIMARY KEY, created_at {INSTANT}, updated_at {INSTANT}"
# Logged tables with primary keys, and the columns in the sources' order.
TABLES = {
    "order_items": ("ORDERS_DB_URL", f"{ROW}, product_id bigint, quantity int, unit_price {MONEY}, discount {MONEY}, order_id bigint"),
    "orders": (
        "ORDERS_DB_URL",
        f"{ROW}, order_date {INSTANT}, status text, total_amount {MONEY}, customer_id bigint, employee_id bigint, region_id bigint",
    ),
    "payments": ("PAYMENTS_DB_URL", f"{ROW}, order_id bigint, method text, status text, amount {MONEY}, paid_at {INSTANT}"),
}


def measure_floor() -> Cost:
    run_sql("DWH_URL", "DROP SCHEMA IF EXISTS floor CASCADE")
    run_sql("DWH_URL", "CREATE SCHEMA floor")
    for table, (_, columns) in TABLES.items():
        run_sql("DWH_URL", f"CREATE TABLE floor.{table} ({columns})")
    cost = add_costs([copy_table(table, source) for table, (source, _) in TABLES.items()])
    run_sql("DWH_URL", "DROP SCHEMA floor CASCADE")
    return cost


def copy_table(table: str, source: str) -> Cost:
    client = str(program("mariadb") or program("mysql") or "mysql")
    read = [
        client,
        *client_options(source),
        "--quick",
        "--batch",
        "--skip-column-names",
        "-e",
        f"SELECT * FROM {table}",
        database_name(source),
    ]
    write = ["psql", *client_options("DWH_URL"), "-qX", "-v", "ON_ERROR_STOP=1", "-c", f"\\copy floor.{table} FROM STDIN (NULL 'NULL')"]
    secrets = {"MYSQL_PWD": password(source), "PGPASSWORD": password("DWH_URL")}
    return measure(read, os.environ | secrets, FOLDER / "floor.log", into=[*write, database_name("DWH_URL")])
