"""The ground that the benchmark stands on: the shop, the databases emptied, one in a hundred orders changed."""

import compileall
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from tests.bench.measure import Cost, cost
from tests.servers import mysql

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(tempfile.mkdtemp(prefix="techmarket-bench-"))


def manage(*arguments: str, **env: str) -> Cost:
    return cost([sys.executable, str(ROOT / "manage.py"), *arguments], os.environ | env, FOLDER / "manage.log")


# --- The shop ---


def build_shop(orders: int) -> None:
    """For code that is compiled, as the image has it: where Python is told to write no bytecode, each start took 0.08 s more."""
    for package in ("apps", "techmarket"):
        compileall.compile_dir(ROOT / package, quiet=2)
    manage("migrate_all", "-v", "0")
    manage("generate_data", "--replace", "--quiet", f"--orders={orders}")


def change_one_percent(turn: int) -> int:
    """Another quantity in every line of one order in a hundred, all over the table, others at each turn; how many lines that are."""
    with mysql(os.environ["ORDERS_DB_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"UPDATE {name('ORDERS_DB_URL')}.order_items SET quantity = MOD(quantity, 7) + 1 WHERE MOD(order_id, 100) = {turn}")
        return int(cursor.rowcount)


def let_a_day_pass() -> None:
    """Else each run would read once more what changed in the minutes before, by its overlap, and more of it in each round."""
    with mysql(os.environ["ORDERS_DB_URL"]) as connection, connection.cursor() as cursor:
        passed = "SET updated_at = updated_at - INTERVAL 1 DAY WHERE updated_at > UTC_TIMESTAMP() - INTERVAL 1 DAY"
        cursor.execute(f"UPDATE {name('ORDERS_DB_URL')}.order_items {passed}")


# --- The warehouse and the ledger ---


def empty() -> None:
    """As before the first load."""
    for variable in ("DWH_URL", "CONTROL_DB_URL"):
        ask(variable, "DROP SCHEMA public CASCADE")
        ask(variable, "CREATE SCHEMA public")
    manage("migrate_all", "-v", "0")


def settle() -> None:
    """What the step before has left the server to write must not be charged to the next one."""
    ask("DWH_URL", "CHECKPOINT")


def ask(variable: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(os.environ[variable], autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


# --- Addresses, as the servers' own programs want them ---


def name(variable: str) -> str:
    return urlsplit(os.environ[variable]).path.strip("/")


def password(variable: str) -> str:
    return unquote(urlsplit(os.environ[variable]).password or "")


def options(variable: str) -> list[str]:
    """Host, port and user, by the options that the clients of both kinds of server have in common."""
    address = urlsplit(os.environ[variable])
    kind = "-p" if address.scheme.startswith("postgres") else "-P"
    user = "-U" if address.scheme.startswith("postgres") else "-u"
    return ["-h", address.hostname or "127.0.0.1", kind, str(address.port), user, unquote(address.username or "")]
