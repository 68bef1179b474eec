"""The floor: nothing but the wire. The client's unbuffered SELECT of a table, piped to psql's COPY, three tables one after the other."""

import os

from tests.bench.harness import FOLDER, ask, name, options, password
from tests.bench.measure import Cost, cost, together
from tests.servers import program

MONEY, INSTANT = "numeric(12,2)", "timestamp(6)"
ROW = f"id bigint PRIMARY KEY, created_at {INSTANT}, updated_at {INSTANT}"
# Whole tables, logged, with their primary keys, in the order of columns that the sources have.
TABLES = {
    "order_items": ("ORDERS_DB_URL", f"{ROW}, product_id bigint, quantity int, unit_price {MONEY}, discount {MONEY}, order_id bigint"),
    "orders": (
        "ORDERS_DB_URL",
        f"{ROW}, order_date {INSTANT}, status text, total_amount {MONEY}, customer_id bigint, employee_id bigint, region_id bigint",
    ),
    "payments": ("PAYMENTS_DB_URL", f"{ROW}, order_id bigint, method text, status text, amount {MONEY}, paid_at {INSTANT}"),
}


def floor() -> Cost:
    ask("DWH_URL", "DROP SCHEMA IF EXISTS floor CASCADE")
    ask("DWH_URL", "CREATE SCHEMA floor")
    for table, (_, columns) in TABLES.items():
        ask("DWH_URL", f"CREATE TABLE floor.{table} ({columns})")
    copied = together([copied_by_wire(table, source) for table, (source, _) in TABLES.items()])
    ask("DWH_URL", "DROP SCHEMA floor CASCADE")
    return copied


def copied_by_wire(table: str, source: str) -> Cost:
    client = str(program("mariadb") or program("mysql") or "mysql")
    read = [client, *options(source), "--quick", "--batch", "--skip-column-names", "-e", f"SELECT * FROM {table}", name(source)]
    write = ["psql", *options("DWH_URL"), "-qX", "-v", "ON_ERROR_STOP=1", "-c", f"\\copy floor.{table} FROM STDIN (NULL 'NULL')"]
    secrets = {"MYSQL_PWD": password(source), "PGPASSWORD": password("DWH_URL")}
    return cost(read, os.environ | secrets, FOLDER / "floor.log", into=[*write, name("DWH_URL")])
