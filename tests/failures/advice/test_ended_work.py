"""Sessions and statements that a server ends: what a proxy's or a pooler's sessions meet, set here in a session of the test.

TechMarket sets these limits to none for each session of its own (test_sessions.py), so no command of its can be made to meet them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError, SessionLimit, Transient
from techmarket.messages import Message
from tests.failures.conftest import SECRET, Shop, needs_servers
from tests.failures.test_logins import Warehouse, ukrainian

pytestmark = [needs_servers, pytest.mark.django_db(databases="__all__")]
Open = Callable[[str], BaseDatabaseWrapper]
__all__ = ["ukrainian"]  # the fixture


@pytest.fixture
def opened(shop: Shop) -> Iterator[Open]:
    """Return a function that opens another session of ours with one of the shop's databases."""
    found: list[BaseDatabaseWrapper] = []

    def open_session(alias: str) -> BaseDatabaseWrapper:
        connection = connections[alias].copy()
        connection.settings_dict = connection.settings_dict | {"NAME": shop.name(alias)}
        found.append(connection)
        connection.ensure_connection()
        return connection

    yield open_session
    for connection in found:
        connection.close()


def execute(connection: BaseDatabaseWrapper, *statements: str) -> Any:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else None


def failure(connection: BaseDatabaseWrapper, *statements: str) -> EtlError:
    with pytest.raises(EtlError) as caught, diagnosed(connection.alias):
        execute(connection, *statements)
    return caught.value


def code(error: EtlError) -> str:
    assert isinstance(error.message, Message)
    return error.message.code


# --- PostgreSQL ---


def test_timeout_and_cancel_in_another_language(ukrainian: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """One SQLSTATE is for both. The step for a timeout helps; a cancelled statement is run again."""
    where, name = ukrainian.url.split("@")[1].split("/")
    host, port = where.split(":")
    own = {"HOST": host, "PORT": port, "USER": "plain", "PASSWORD": SECRET, "NAME": name}
    monkeypatch.setattr(connections["dwh"], "settings_dict", connections["dwh"].settings_dict | own)
    with closing(connections["dwh"].copy()) as connection:
        timed_out = failure(connection, "SET statement_timeout = '50ms'", "SELECT pg_sleep(20)")
        assert (type(timed_out), code(timed_out)) == (SessionLimit, "database.statement_limit")
        assert ". Set it to 0 for user " in timed_out.message
        ukrainian.sql("ALTER ROLE plain SET statement_timeout = 0")
        connection.close()
        execute(connection, "SELECT pg_sleep(0.2)")

        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(20)%'"
        timer = threading.Timer(0.5, ukrainian.sql, [cancel])
        timer.start()
        cancelled = failure(connection, "SELECT pg_sleep(20)")
        timer.join()
        assert (type(cancelled), code(cancelled)) == (Transient, "database.statement_cancelled")
        execute(connection, "SELECT pg_sleep(0.2)")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("idle_session_timeout", "database.idle_session"), ("idle_in_transaction_session_timeout", "database.idle_in_transaction")],
)
def test_idle_session_of_postgresql(shop: Shop, opened: Open, limit: str, expected: str) -> None:
    connection = opened("dwh")
    execute(connection, f"SET {limit} = '50ms'", *(["BEGIN"] if "transaction" in limit else []))
    time.sleep(0.3)
    error = failure(connection, "SELECT 1")
    assert (type(error), code(error), error.transient) == (SessionLimit, expected, True)
    if limit in error.message:  # "Set idle_session_timeout to 0 for user ... there"
        shop.sql("dwh", f"ALTER ROLE test IN DATABASE {shop.name('dwh')} SET {limit} = 0")
    connection.close()
    assert execute(connection, "SELECT 1") == [(1,)]
    shop.sql("dwh", f"ALTER ROLE test IN DATABASE {shop.name('dwh')} RESET {limit}")


def test_lock_timeout_of_postgresql(opened: Open) -> None:
    holder, connection = opened("dwh"), opened("dwh")
    execute(holder, "BEGIN", "LOCK TABLE dim_region")
    error = failure(connection, "SET lock_timeout = '50ms'", "SELECT 1 FROM dim_region LIMIT 1")
    assert (error.transient, code(error)) == (True, "database.warehouse_locked")
    execute(holder, "ROLLBACK")
    execute(connection, "SELECT 1 FROM dim_region LIMIT 1")


# --- MySQL and MariaDB ---


def test_idle_session_of_mysql(opened: Open) -> None:
    """MySQL says why, since 8.0.24; MariaDB closes the connection."""
    connection = opened("orders_db")
    execute(connection, "SET SESSION wait_timeout = 1")
    time.sleep(2.5)
    error = failure(connection, "SELECT 1")
    assert code(error) == ("database.connection_lost" if connection.mysql_is_mariadb else "database.idle_too_long")  # type: ignore[attr-defined]
    assert error.transient and error.message.endswith("Run it again.")
    connection.close()
    assert execute(connection, "SELECT 1") == ((1,),)


def test_statement_timeout_of_mysql(opened: Open) -> None:
    connection = opened("orders_db")
    limit = "max_statement_time = 0.05" if connection.mysql_is_mariadb else "max_execution_time = 50"  # type: ignore[attr-defined]
    slow = "SELECT COUNT(*) FROM order_items a, order_items b, orders c WHERE a.quantity + b.quantity + c.id < 0"
    error = failure(connection, f"SET SESSION {limit}", slow)
    assert (type(error), code(error)) == (SessionLimit, "database.statement_timeout")
    execute(connection, f"SET SESSION {limit.split()[0]} = 0", "SELECT 1 FROM order_items a, order_items b LIMIT 100000")


def test_lock_timeout_of_mysql(opened: Open) -> None:
    holder, connection = opened("orders_db"), opened("orders_db")
    execute(holder, "BEGIN", "UPDATE orders SET status = status WHERE id = 1", "SELECT id FROM orders WHERE id = 1 FOR UPDATE")
    error = failure(connection, "SET SESSION innodb_lock_wait_timeout = 1", "SELECT id FROM orders WHERE id = 1 FOR UPDATE")
    assert (error.transient, code(error)) == (True, "database.lock_timeout")
    execute(holder, "ROLLBACK")
    execute(connection, "SELECT id FROM orders WHERE id = 1 FOR UPDATE")


def test_deadlock_of_mysql(opened: Open) -> None:
    """The transaction that has changed fewer rows is the victim: ours."""
    other, connection = opened("orders_db"), opened("orders_db")
    other.inc_thread_sharing()
    execute(other, "BEGIN", "UPDATE orders SET updated_at = NOW() WHERE id > 1")
    execute(connection, "BEGIN", "UPDATE orders SET updated_at = NOW() WHERE id = 1")
    thread = threading.Timer(0.5, execute, [other, "UPDATE orders SET updated_at = NOW() WHERE id = 1"])
    thread.start()
    error = failure(connection, "UPDATE orders SET updated_at = NOW() WHERE id = 2")
    thread.join()
    assert (error.transient, code(error)) == (True, "database.deadlock")
    execute(other, "ROLLBACK")
    execute(connection, "UPDATE orders SET updated_at = NOW() WHERE id = 2")


def test_table_altered_after_the_snapshot_was_taken(shop: Shop, opened: Open) -> None:
    connection = opened("orders_db")
    snapshot = ("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    execute(connection, *snapshot)
    shop.sql("orders_db", "ALTER TABLE regions FORCE")
    error = failure(connection, "SELECT id FROM regions")
    assert (error.transient, code(error)) == (True, "database.table_changed")
    execute(connection, "ROLLBACK", *snapshot, "SELECT id FROM regions")
