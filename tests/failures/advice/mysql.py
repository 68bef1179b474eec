"""Causes on MySQL and MariaDB: rights, accounts, tables and sessions that end."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.failures.advice.postgres import in_the_background
from tests.failures.advice.steps import Command, Scene, run_statement
from tests.failures.conftest import SECRET, SLOW, Shop, administer, end_waiting_sessions

FULL = ("run_etl", "--quiet", "--mode", "full")

PASSWORD = f"IDENTIFIED BY '{SECRET}'"


@contextmanager
def account(shop: Shop, how: str = PASSWORD, grant: str = "SELECT ON {database}.*") -> Iterator[tuple[str, dict[str, str]]]:
    """Create an account that may read the orders; yield it as SQL names it, and the environment in which a command is this account."""
    name = f"reader_{secrets.token_hex(4)}"
    account = f"{name}@'127.0.0.1'"
    administer("orders_db", f"CREATE USER {account} {how}")
    try:
        if grant:
            administer("orders_db", f"GRANT {grant.format(database=shop.name('orders_db'))} TO {account}")
        where = shop.urls["orders_db"].split("@", 1)[1]
        yield account, {"ORDERS_DB_URL": f"mysql://{name}:{SECRET}@{where}"}
    finally:
        administer("orders_db", f"DROP USER {account}")


# --- Rights ---


def no_right(shop: Shop) -> Scene:
    with account(shop, grant="") as (name, env):
        yield Command(env=env)
        administer("orders_db", f"GRANT SELECT ON {shop.name('orders_db')}.* TO {name}")
        yield Command(env=env)


def no_right_to_a_table(shop: Shop) -> Scene:
    database = shop.name("orders_db")
    with account(shop, grant="SELECT ON {database}.regions") as (name, env):
        for table in ("customers", "employees", "order_items"):
            administer("orders_db", f"GRANT SELECT ON {database}.{table} TO {name}")
        yield Command(env=env)
        administer("orders_db", f"GRANT SELECT ON {database}.orders TO {name}")
        yield Command(env=env)


def no_right_to_a_column(shop: Shop) -> Scene:
    database = shop.name("orders_db")
    with account(shop, grant="SELECT ON {database}.regions") as (name, env):
        for table in ("customers", "employees", "order_items"):
            administer("orders_db", f"GRANT SELECT ON {database}.{table} TO {name}")
        administer("orders_db", f"GRANT SELECT (id, status) ON {database}.orders TO {name}")
        yield Command(env=env)
        administer("orders_db", f"GRANT SELECT ON {database}.orders TO {name}")
        yield Command(env=env)


def other_login(shop: Shop) -> Scene:
    """An account that the operating system's user of the same name alone may use."""
    with account(shop, how="IDENTIFIED VIA unix_socket") as (_, env):
        yield Command(env=env)
        yield Command()


# --- Tables ---


def other_engine(shop: Shop) -> Scene:
    shop.sql("orders_db", "ALTER TABLE orders ENGINE=MyISAM")
    advice = yield Command()
    run_statement(shop, "orders_db", advice)
    yield Command()


def large_number(shop: Shop) -> Scene:
    shop.sql("orders_db", "ALTER TABLE order_items MODIFY quantity BIGINT UNSIGNED NOT NULL")
    [(row, quantity)] = shop.sql("orders_db", "SELECT id, quantity FROM order_items ORDER BY id LIMIT 1")
    shop.sql("orders_db", f"UPDATE order_items SET quantity = {2**64 - 1} WHERE id = {row}")
    yield Command()
    shop.sql("orders_db", f"UPDATE order_items SET quantity = {quantity} WHERE id = {row}")
    yield Command()


def view_without_its_table(shop: Shop) -> Scene:
    shop.sql("orders_db", "ALTER TABLE regions RENAME TO base_regions")
    shop.sql("orders_db", "CREATE VIEW regions AS SELECT * FROM base_regions")
    shop.sql("orders_db", "ALTER TABLE base_regions RENAME TO elsewhere")
    yield Command()
    shop.sql("orders_db", "ALTER TABLE elsewhere RENAME TO base_regions")
    yield Command()


# --- Sessions and statements that end ---


def ended_session(shop: Shop) -> Scene:
    """In a statement, which waits for a table."""
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES order_items WRITE")
        with in_the_background(lambda: end_waiting_sessions(shop)):
            yield Command(FULL, SLOW)
    yield Command(FULL, SLOW)
