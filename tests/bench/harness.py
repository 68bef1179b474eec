"""The benchmark's harness: build the shop, change one order in a hundred, empty the warehouse and the ledger."""

import atexit
import compileall
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from tests.bench.measure import Cost, measure
from tests.servers import mysql

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(tempfile.mkdtemp(prefix="techmarket-bench-"))  # of logs; stays where something failed
atexit.register(lambda: FOLDER.exists() and not any(FOLDER.iterdir()) and FOLDER.rmdir())


def manage(*arguments: str, code: int = 0, **env: str) -> Cost:
    return measure([sys.executable, str(ROOT / "manage.py"), *arguments], os.environ | env, FOLDER / "manage.log", code=code)


# --- The shop ---


def build_shop(orders: int) -> None:
    """Generate a shop. Compile the code first, as in the image: without bytecode each start takes 0.08 s more."""
    for package in ("apps", "techmarket"):
        compileall.compile_dir(ROOT / package, quiet=2)
    manage("migrate_all", "-v", "0")
    manage("generate_data", "--replace", "--quiet", f"--orders={orders}")


def change_one_percent(turn: int, newest: bool = False) -> int:
    """Change the quantity in every line of one order in a hundred, or as many among the newest tenth, other orders for each `turn`.

    Return the number of lines changed.
    """
    with mysql(os.environ["ORDERS_DB_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT MAX(id) * 9 DIV 10 FROM {database_name('ORDERS_DB_URL')}.orders")
        [(newest_tenth,)] = cursor.fetchall()
    changed = f"order_id > {newest_tenth} AND MOD(order_id, 10) = {turn % 10}" if newest else f"MOD(order_id, 100) = {turn}"
    return change_lines(changed)


def change_lines(condition: str) -> int:
    """Change the quantity in the order lines that meet this SQL condition. Return their number."""
    with mysql(os.environ["ORDERS_DB_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"UPDATE {database_name('ORDERS_DB_URL')}.order_items SET quantity = MOD(quantity, 7) + 1 WHERE {condition}")
        return int(cursor.rowcount)


def age_changes() -> None:
    """Move recent changes a day back: otherwise the overlap makes each run read again what the rounds before changed."""
    with mysql(os.environ["ORDERS_DB_URL"]) as connection, connection.cursor() as cursor:
        passed = "SET updated_at = updated_at - INTERVAL 1 DAY WHERE updated_at > UTC_TIMESTAMP() - INTERVAL 1 DAY"
        cursor.execute(f"UPDATE {database_name('ORDERS_DB_URL')}.order_items {passed}")


# --- The warehouse and the ledger ---


def empty_targets() -> None:
    """Empty the warehouse and the ledger, as before the first load."""
    for variable in ("DWH_URL", "CONTROL_DB_URL"):
        run_sql(variable, "DROP SCHEMA public CASCADE")
        run_sql(variable, "CREATE SCHEMA public")
    manage("migrate_all", "-v", "0")


def find_two_lines() -> tuple[int, int, int]:
    """Return an order in the middle of the fact, and the ids of two of its lines."""
    [found] = run_sql(
        "DWH_URL",
        "SELECT order_id, MIN(order_item_id), MAX(order_item_id) FROM fact_sales "
        "WHERE order_id > (SELECT MAX(order_id) / 2 FROM fact_sales) GROUP BY order_id HAVING COUNT(*) > 1 ORDER BY order_id LIMIT 1",
    )
    return found[0], found[1], found[2]


def move_kopiyka(from_line: int, to_line: int) -> None:
    for line, change in ((from_line, "- 0.01"), (to_line, "+ 0.01")):
        run_sql("DWH_URL", f"UPDATE fact_sales SET net_amount = net_amount {change} WHERE order_item_id = {line}")


def checkpoint() -> None:
    """Let the server write what the step before has left, so that the next one is not charged for it."""
    run_sql("DWH_URL", "CHECKPOINT")


def run_sql(variable: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(os.environ[variable], autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


# --- Addresses, as the servers' command-line clients take them ---


def database_name(variable: str) -> str:
    return urlsplit(os.environ[variable]).path.strip("/")


def password(variable: str) -> str:
    return unquote(urlsplit(os.environ[variable]).password or "")


def client_options(variable: str) -> list[str]:
    """Return host, port and user as command-line options of mysql or psql."""
    address = urlsplit(os.environ[variable])
    kind = "-p" if address.scheme.startswith("postgres") else "-P"
    user = "-U" if address.scheme.startswith("postgres") else "-u"
    return ["-h", address.hostname or "127.0.0.1", kind, str(address.port), user, unquote(address.username or "")]
