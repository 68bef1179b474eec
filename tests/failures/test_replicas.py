"""Runs that read a replica: of a real primary, that lags, has stopped, or cannot be measured."""

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from apps.etl.replicas import has_more_of_source, has_unlogged
from tests.failures.advice.own import OwnServer, OwnShop
from tests.failures.advice.steps import Command, Scene, take
from tests.failures.conftest import FILES, SECRET, Rows, assert_one_line, needs_servers, wait_for_exit
from tests.servers import mysql, start_mysql, start_postgres, with_database

pytestmark = [needs_servers, pytest.mark.process, pytest.mark.servers]

PRIMARY = ("--log-bin=bin", "--server-id=1", "--binlog-format=ROW")
# No second chance: a window begins at the mark, and no sweep looks for what it missed.
STRICT = {"ETL_OVERLAP_MINUTES": "0", "ETL_SWEEP_SECONDS": "0"}
INCREMENTAL = ("run_etl", "--quiet")


class ReplicatedShop(OwnShop):
    """A loaded shop whose sources have a replica."""

    def __init__(self, folder: Path, sources: OwnServer, warehouse: OwnServer, replica: OwnServer):
        self.replica = replica
        self.replica_root = start_mysql(replica)
        super().__init__(folder, sources, warehouse, {"mysql": start_mysql(sources), "postgres": start_postgres(warehouse)})

    def reads(self, **env: str) -> dict[str, str]:
        """Return the variables with which runs read the replica, as a user with SELECT alone."""
        port = urlsplit(self.replica_root).port
        return {
            settings.READ_VARIABLES[alias]: f"mysql://reader:{SECRET}@127.0.0.1:{port}/{FILES[alias]}" for alias in settings.SOURCES
        } | env

    def on_replica(self, *statements: str) -> Rows:
        with closing(mysql(self.replica_root)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def replicate(self, delay: int = 0) -> None:
        """Let the replica apply everything at once, or so many seconds after the primary."""
        self.on_replica("STOP REPLICA", f"CHANGE MASTER TO MASTER_DELAY={delay}", "START REPLICA")

    def position(self) -> str:
        ((position,),) = self.administer("orders_db", "SELECT @@gtid_binlog_pos")
        return str(position)

    def wait_for_replica(self) -> None:
        assert self.on_replica(f"SELECT MASTER_GTID_WAIT('{self.position()}', 30)") == [(0,)]

    def set_price(self, line: int, price: str) -> None:
        self.sql("orders_db", f"UPDATE order_items SET unit_price = {price}, discount = 0 WHERE id = {line}")

    def loaded_price(self, line: int) -> str:
        ((price,),) = self.sql("dwh", f"SELECT gross_amount / quantity FROM fact_sales WHERE order_item_id = {line}")
        return f"{price:.2f}"


@pytest.fixture(scope="module")
def replicated() -> Iterator[ReplicatedShop]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="techmarket-own-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        primary, replica, warehouse = (OwnServer(folder / name) for name in ("primary", "replica", "postgres"))
        primary.options, replica.options = PRIMARY, ("--server-id=2", "--slave-net-timeout=5")
        for each in (primary, replica, warehouse):
            stack.callback(each.stop)
        shop = ReplicatedShop(folder, primary, warehouse, replica)
        start_replication(shop)
        for alias, name in FILES.items():
            shop.administer(alias, f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if alias in settings.SOURCES else ""))
        shop.administer("orders_db", f"CREATE USER reader@'127.0.0.1' IDENTIFIED BY '{SECRET}'")
        for alias in settings.SOURCES:
            shop.administer("orders_db", f"GRANT SELECT ON {FILES[alias]}.* TO reader@'127.0.0.1'")
        for command in (("migrate_all", "-v", "0"), ("generate_data", "--quiet")):
            result = shop.run(*command)
            assert result.returncode == 0, result.stderr
        shop.wait_for_replica()
        result = shop.run("run_etl", "--quiet", env=shop.reads())
        assert result.returncode == 0, result.stderr
        yield shop


def start_replication(shop: ReplicatedShop) -> None:
    address = urlsplit(shop.roots["mysql"])
    where = f"MASTER_HOST='127.0.0.1', MASTER_PORT={address.port}, MASTER_USER='{address.username}', MASTER_PASSWORD='{address.password}'"
    shop.on_replica(
        f"SET GLOBAL gtid_slave_pos='{shop.position()}'",
        "SET GLOBAL read_only=ON",
        f"CHANGE MASTER TO {where}, MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
        "START REPLICA",
    )


@pytest.fixture(autouse=True)
def shop(replicated: ReplicatedShop) -> Iterator[ReplicatedShop]:
    yield replicated
    for process in replicated.started:
        process.kill()
        process.communicate()
    replicated.started.clear()
    replicated.replicate()
    replicated.wait_for_replica()


def test_run_reads_nothing_but_the_position_from_the_source(shop: ReplicatedShop) -> None:
    """An account that may read no table there."""
    shop.administer("orders_db", "SET SESSION sql_log_bin = 0", f"CREATE USER limited@'127.0.0.1' IDENTIFIED BY '{SECRET}'")
    for alias in settings.SOURCES:
        shop.administer(
            "orders_db", "SET SESSION sql_log_bin = 0", f"GRANT CREATE TEMPORARY TABLES ON {FILES[alias]}.* TO limited@'127.0.0.1'"
        )
    limited = {settings.VARIABLES[alias]: f"mysql://limited:{SECRET}@{shop.urls[alias].split('@', 1)[1]}" for alias in settings.SOURCES}
    shop.set_price(1, "1234.00")
    for command in (("run_etl", "--mode", "full", "--reread", "--quiet"), ("reconcile", "--quiet")):
        result = shop.run(*command, env=shop.reads(**limited))
        assert (result.returncode, result.stderr) == (0, "")
    assert shop.loaded_price(1) == "1234.00"


def test_run_has_what_was_committed_before_it_although_the_replica_lags(shop: ReplicatedShop) -> None:
    """MariaDB says Seconds_Behind_Master = 0 for a second here. A mark by the replica's clock would leave the change behind for ever."""
    shop.replicate(delay=3)
    shop.set_price(2, "2222.00")
    result = shop.run(*INCREMENTAL, env=shop.reads(**STRICT))
    assert (result.returncode, result.stderr) == (0, "")
    assert shop.loaded_price(2) == "2222.00"


def test_mark_is_not_ahead_of_what_the_replica_had(shop: ReplicatedShop) -> None:
    """What is committed while a run waits for the replica, and reaches that after the snapshot, is found by the next run's window."""
    shop.on_replica("STOP REPLICA")
    shop.set_price(3, "3333.00")
    position = shop.position()
    process = shop.start("run_etl", env=shop.reads(**STRICT, LOG_FORMAT="json"))
    assert wait_for_event(process, "waiting for a replica")["replica"].startswith("payments_replica")
    shop.sql("payments_db", "UPDATE payments SET amount = amount + 1 WHERE status = 'captured' ORDER BY id LIMIT 1")
    shop.on_replica(f"START REPLICA UNTIL master_gtid_pos = '{position}'")
    wait_for_event(process, "a replica has caught up")
    shop.replicate()
    assert wait_for_exit(process).returncode == 0
    assert shop.loaded_price(3) == "3333.00"
    assert shop.run("reconcile", "--quiet").returncode == 6
    assert shop.run(*INCREMENTAL, env=shop.reads(**STRICT)).returncode == 0
    assert shop.run("reconcile", "--quiet").returncode == 0


def wait_for_event(process: Any, event: str) -> dict[str, Any]:
    for line in process.stderr:
        found = json.loads(line)
        if found["event"] == event:
            return dict(found)
    raise AssertionError(f"no {event!r}")


def replica_that_has_stopped(shop: ReplicatedShop) -> Scene:
    shop.on_replica("STOP REPLICA SQL_THREAD")
    shop.set_price(5, "5555.00")
    before, env = shop.warehouse(), shop.reads(ETL_MAX_REPLICA_LAG_SECONDS="1")
    yield Command(INCREMENTAL, env)
    assert shop.warehouse() == before
    shop.on_replica("START REPLICA SQL_THREAD")
    shop.wait_for_replica()
    yield Command(INCREMENTAL, env)
    assert shop.loaded_price(5) == "5555.00"


def test_replica_that_has_stopped(shop: ReplicatedShop) -> None:
    take(shop, replica_that_has_stopped, "database.replica_lags")


def test_replica_that_receives_nothing_has_no_lag_of_its_own(shop: ReplicatedShop) -> None:
    """Seconds_Behind_Master compares with what has been received: it is NULL here, and 0 where only the network hangs."""
    shop.on_replica("STOP REPLICA IO_THREAD")
    shop.set_price(6, "6666.00")
    result = shop.run(*INCREMENTAL, env=shop.reads(ETL_MAX_REPLICA_LAG_SECONDS="1"))
    where = f"orders_replica (127.0.0.1:{urlsplit(shop.replica_root).port}) is more than 1 s behind orders_db (127.0.0.1:"
    assert_one_line(result, 4, where.replace("orders", "payments"), "ETL_MAX_REPLICA_LAG_SECONDS", "PAYMENTS_READ_URL")


def source_without_a_log(shop: ReplicatedShop) -> Scene:
    """A server that numbers no transactions."""
    shop.sources.end(signal.SIGTERM)
    shop.sources.options = ("--skip-log-bin",)
    shop.sources.restart()
    yield Command(INCREMENTAL, shop.reads())
    shop.sources.end(signal.SIGTERM)
    shop.sources.options = PRIMARY
    shop.sources.restart()
    shop.replicate()
    yield Command(INCREMENTAL, shop.reads())


def test_source_without_a_log(shop: ReplicatedShop) -> None:
    take(shop, source_without_a_log, "database.no_gtid")


def replica_ahead(shop: ReplicatedShop) -> Scene:
    """The log of the source begins anew, as after a restore: the replica has every number that the source now has, and another content."""
    shop.administer("orders_db", "RESET MASTER")
    shop.set_price(10, "1010.00")
    before, env = shop.warehouse(), shop.reads(ETL_MAX_REPLICA_LAG_SECONDS="1")
    yield Command(INCREMENTAL, env)
    assert shop.warehouse() == before
    shop.on_replica("STOP REPLICA", "RESET REPLICA", "SET GLOBAL gtid_slave_pos=''", "START REPLICA")
    shop.wait_for_replica()
    yield Command(INCREMENTAL, env)
    assert shop.loaded_price(10) == "1010.00"


def test_replica_ahead_of_a_source_that_was_built_again(shop: ReplicatedShop) -> None:
    take(shop, replica_ahead, "database.replica_ahead")


@pytest.mark.parametrize(
    ("applied", "logged", "ahead"),
    [
        ("0-1-7", "0-1-7", False),
        ("0-1-7", "0-1-9", False),
        ("0-1-8", "0-1-7", True),
        ("0-2-7", "0-1-9", True),  # of another server
        ("0-2-7", "0-2-7,0-1-9", False),  # committed before the source took over from server 2
        ("0-1-7,5-3-99", "0-1-7", False),  # a replica of two sources
        ("0-1-7,5-3-99", "0-1-7,5-3-98", True),
        ("", "0-1-7", False),
    ],
)
def test_numbers_of_mariadb_that_the_source_lacks(applied: str, logged: str, ahead: bool) -> None:
    assert has_unlogged(applied, logged) is ahead


@pytest.mark.parametrize(
    ("excess", "ahead"),
    [
        ("", False),
        ("cf2eb047-ea5f-11f1-b192-02fc00000001:24-30", True),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", False),  # the replica's own
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\ncf2eb047-ea5f-11f1-b192-02fc00000001:24", True),
    ],
)
def test_numbers_of_mysql_that_the_source_lacks(excess: str, ahead: bool) -> None:
    """As MySQL 9.7 spells them."""
    assert has_more_of_source(excess, "cf2eb047-ea5f-11f1-b192-02fc00000001") is ahead


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_replica_ends_with_a_signal(shop: ReplicatedShop, number: signal.Signals) -> None:
    shop.on_replica("STOP REPLICA SQL_THREAD")
    shop.set_price(7, f"77{number:02}.00")
    process = shop.start("run_etl", env=shop.reads(LOG_FORMAT="json"))
    event = wait_for_event(process, "waiting for a replica")
    assert event["at_most_seconds"] == 60
    process.send_signal(number)
    began = time.monotonic()
    result = wait_for_exit(process)
    assert (result.returncode, time.monotonic() - began < 20) == (130, True), result.stderr
    assert shop.runs()[-1]["state"] == "cancelled"


def test_waiting_for_a_replica_ends_with_a_cancellation(shop: ReplicatedShop) -> None:
    shop.on_replica("STOP REPLICA SQL_THREAD")
    shop.set_price(8, "8888.00")
    process = shop.start("run_etl", env=shop.reads(LOG_FORMAT="json"))
    wait_for_event(process, "waiting for a replica")
    shop.sql("default", "UPDATE orchestration_run SET cancelled_by = 'anna' WHERE id = (SELECT MAX(id) FROM orchestration_run)")
    result = wait_for_exit(process)
    assert result.returncode == 130 and "Cancelled by anna" in result.stderr, result.stderr


def test_ping_shows_the_lag(shop: ReplicatedShop) -> None:
    def ping(**env: str) -> tuple[int, dict[str, Any], str]:
        result = shop.run("ping", "--databases", "--json", env=shop.reads(**env))
        parts = {part["name"]: part for part in json.loads(result.stdout)["parts"]}
        assert parts.keys() == {*settings.PRIMARIES, *(alias.replace("_db", "_replica") for alias in settings.SOURCES)}
        return result.returncode, parts["orders_replica"], result.stderr

    code, part, _ = ping()
    assert (code, part["version"].endswith(", 0.0 s behind"), part["rights"]) == (0, True, "read only")
    shop.on_replica("STOP REPLICA SQL_THREAD")
    shop.set_price(9, "9999.00")
    code, part, text = ping()
    assert (code, part["version"].endswith(", over 5 s behind"), "a run waits for it for up to 60 s" in text) == (0, True, True)
    code, part, text = ping(ETL_MAX_REPLICA_LAG_SECONDS="1")
    assert code == 4 and "orders_replica" in part["trouble"] and "is more than 1 s behind orders_db" in part["trouble"]


def test_replica_is_neither_migrated_nor_backed_up(shop: ReplicatedShop) -> None:
    result = shop.run("migrate_all", env=shop.reads())
    assert result.returncode == 0 and "replica" not in result.stdout, result.stderr
    result = shop.run("wait", "--sources", "--seconds", "0", env=shop.reads())
    assert (result.returncode, result.stderr) == (0, "")
    result = shop.run("backup", env=shop.reads(BACKUP_DIR=str(shop.folder / "backups")))
    assert result.returncode == 0 and "replica" not in result.stdout, result.stderr


def test_replica_that_does_not_answer_is_named(shop: ReplicatedShop) -> None:
    reads = shop.reads(ORDERS_READ_URL=with_database("mysql://reader:x@127.0.0.1:1", "orders_db"))
    result = shop.run(*INCREMENTAL, env=reads)
    assert_one_line(result, 4, "orders_replica (127.0.0.1:1) does not answer. Start it, or correct ORDERS_READ_URL")
