"""Failures that only servers have: rights, locks, standbys, full tablespaces and lost connections."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings

from tests.failures.conftest import (
    SECRET,
    SLOW,
    Shop,
    administer,
    assert_one_line,
    end_waiting_sessions,
    needs_root,
    needs_servers,
    terminate_sessions,
    wait_for_exit,
)
from tests.failures.test_databases import assert_run_fails, assert_run_succeeds, fill, small_disk
from tests.failures.test_interrupts import lock_warehouse

pytestmark = needs_servers


@pytest.fixture
def reader(shop: Shop) -> Iterator[str]:
    """Create a MySQL user and a PostgreSQL role of the same name that may only connect. Yield the name."""
    name = f"reader_{os.getpid()}"
    administer("auth_db", f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{SECRET}'")
    administer("dwh", f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield name
    administer("auth_db", f"DROP USER {name}@'127.0.0.1'")
    shop.sql("dwh", f"DROP OWNED BY {name}")
    administer("dwh", f"DROP ROLE {name}")


def as_reader(shop: Shop, alias: str, name: str) -> dict[str, str]:
    scheme, rest = shop.urls[alias].split("://")
    return {settings.VARIABLES[alias]: f"{scheme}://{name}:{SECRET}@{rest.split('@', 1)[1]}"}


# --- Rights ---


def test_source_without_the_right_to_select(shop: Shop, reader: str) -> None:
    database = shop.name("orders_db")
    env = as_reader(shop, "orders_db", reader)
    assert_run_fails(shop, 4, "orders_db (127.0.0.1:", f"denies user '{reader}' access to this database. Grant it SELECT there", env=env)
    for table in ("customers", "employees", "order_items", "regions"):
        administer("orders_db", f"GRANT SELECT ON {database}.{table} TO {reader}@'127.0.0.1'")
    assert_run_fails(shop, 4, f"denies user '{reader}' a table: ", "orders", "Grant it there.", env=env)
    administer("orders_db", f"GRANT SELECT (id, status) ON {database}.orders TO {reader}@'127.0.0.1'")
    assert_run_fails(shop, 4, f"denies user '{reader}' a column: ", "Grant it there.", env=env)
    administer("orders_db", f"GRANT SELECT ON {database}.orders TO {reader}@'127.0.0.1'")
    assert shop.run("run_etl", "--resume", "2", env=env).returncode == 0


def test_warehouse_without_rights_names_the_missing_one(shop: Shop, reader: str) -> None:
    env = as_reader(shop, "dwh", reader)
    fix = f"SELECT, INSERT, UPDATE, DELETE ON dim_category TO {reader}` there."
    assert_run_fails(shop, 4, "dwh (127.0.0.1:", f"denies user {reader} SELECT, INSERT", fix, env=env)
    shop.sql("dwh", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    assert_run_fails(shop, 4, f"denies user {reader} INSERT, UPDATE, DELETE on dim_category.", env=env)


def test_unknown_role(shop: Shop) -> None:
    assert_run_fails(shop, 4, "refuses user 'nosuchrole' or its password. Correct DWH_URL.", env=as_reader(shop, "dwh", "nosuchrole"))


# --- A warehouse that cannot be written ---


def test_standby_warehouse(shop: Shop) -> None:
    """A client sees a standby as a database whose transactions are all read-only."""
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET default_transaction_read_only = on")
    assert_run_fails(shop, 4, "is read-only: it is a standby, or default_transaction_read_only is on. Set that to off there")
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} RESET default_transaction_read_only")
    assert_run_succeeds(shop, "--resume", "2")


@needs_root
def test_warehouse_on_a_full_disk(shop: Shop, tmp_path: Path) -> None:
    """The warehouse's tables are in a tablespace on a disk of 24 MB, which is filled before the load.

    The catalogue is not: a session that finds no room for its cache is refused with a FATAL that does not name the disk.
    """
    folder = Path("/tmp") / f"bad_disk_{os.getpid()}"  # which the server's user can reach
    name = f"small_{os.getpid()}"
    with small_disk(folder, 24) as disk:
        space = disk / "space"
        space.mkdir()
        shutil.chown(space, "nobody")
        try:
            administer("dwh", f"CREATE TABLESPACE {name} LOCATION '{space}'")
        except Exception as error:
            pytest.skip(f"the server cannot have a tablespace here: {error}")
        try:
            move_warehouse(shop, "pg_default", name)
            shop.sql("dwh", "TRUNCATE fact_sales")  # all its rows need room
            fill(disk, leave=0)
            assert_run_fails(
                shop, 1, "dwh (127.0.0.1:", "is full: could not extend file", "Free space there, then run it again.", cause_kind="machine"
            )
            (disk / "ballast").unlink()
            assert_run_succeeds(shop, "--resume", "2")
        finally:
            move_warehouse(shop, name, "pg_default")
            administer("dwh", f"DROP TABLESPACE {name}")


def move_warehouse(shop: Shop, source: str, target: str) -> None:
    """Move the tables and indexes of the warehouse from one tablespace to another; new ones are created there too."""
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET default_tablespace = {target}")
    for kind in ("TABLE", "INDEX"):
        shop.sql("dwh", f"ALTER {kind} ALL IN TABLESPACE {source} SET TABLESPACE {target}")


# --- Locks ---


@pytest.mark.parametrize("lock", ["ACCESS EXCLUSIVE", "SHARE"])
def test_lock_on_the_fact(shop: Shop, lock: str) -> None:
    """ACCESS EXCLUSIVE blocks the preflight checks, SHARE the load."""
    with closing(shop.connect("dwh")) as other:
        other.execute(f"LOCK TABLE fact_sales IN {lock} MODE")
        result = shop.run("run_etl")
        other.rollback()
    assert_one_line(result, 1, "another session holds a lock on the warehouse; nothing was published. Run it again when it has ended.")
    assert (shop.runs()[-1]["state"], shop.runs()[-1]["cause"]) == ("failed", result.stderr.strip())
    assert_run_succeeds(shop, "--resume", "2")


def test_lock_on_a_source(shop: Shop) -> None:
    env = {"ORDERS_DB_URL": f"{shop.urls['orders_db']}?read_timeout=2"}
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES orders WRITE")
        assert_run_fails(shop, 1, "orders_db (127.0.0.1:", "nothing was published. Run it again.", env=env, cause_kind="machine")
    assert_run_succeeds(shop, "--resume", "2")


# --- Lost connections ---


def test_warehouse_connection_lost_during_the_load(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env={"ETL_BATCH_ORDERS": "100"})
    shop.wait_until(shop.stage_running("extract"), process)
    with lock_warehouse(shop):
        shop.wait_until(shop.stage_running("load"), process)
        time.sleep(0.2)
        terminate_sessions(shop, "dwh")
        result = wait_for_exit(process)
    assert_one_line(result, 1, "dwh (127.0.0.1:", "nothing was published. Run it again.")
    assert_failed_and_resumable(shop, result.stderr, before)


def test_control_database_connection_lost_in_a_statement(shop: Shop) -> None:
    """The database is back at once, so the ledger records the cause."""
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=SLOW)
    shop.wait_until(shop.stage_running("transform"), process)
    with closing(shop.connect("default")) as other:
        other.execute("LOCK TABLE orchestration_task IN SHARE MODE")
        shop.wait_until(lambda: waits_for_lock(shop), process)
        terminate_sessions(shop, "default")
        other.rollback()
    result = wait_for_exit(process)
    assert_one_line(result, 1, "control database (127.0.0.1:", ". Run it again.")
    assert_failed_and_resumable(shop, result.stderr, before)


def waits_for_lock(shop: Shop) -> bool:
    """Return True while the work waits; a run survives a heartbeat that is lost."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'techmarket'"
    with closing(shop.connect("default")) as other:
        query += """ AND wait_event_type = 'Lock' AND query NOT LIKE 'UPDATE "orchestration_task" SET "heartbeat_at"%'"""
        return bool(other.execute(query).fetchone()[0])


def test_source_connection_lost_during_an_extract(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=SLOW)
    shop.wait_until(shop.stage_running("extract"), process)
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES order_items WRITE")
        shop.wait_until(lambda: end_waiting_sessions(shop), process)
    result = wait_for_exit(process)
    assert_one_line(result, 1, "orders_db (127.0.0.1:", "closed the connection; nothing was published. Run it again.")
    assert_failed_and_resumable(shop, result.stderr, before)


def assert_failed_and_resumable(shop: Shop, stderr: str, before: str) -> None:
    run = shop.runs()[-1]
    assert (run["id"], run["state"], run["cause"], run["cause_kind"]) == (2, "failed", stderr.strip(), "machine")
    assert not shop.tasks("running")
    assert shop.warehouse() == before
    assert_run_succeeds(shop, "--resume", "2")
