"""Causes in the ledger and the data: overlapping runs, brakes, clocks, damaged batches, and a warehouse that changes meanwhile."""

import re
import shlex
import shutil
import threading
import time
from collections.abc import Callable

from tests.failures.advice.steps import Command, Scene, quoted, run_named_command
from tests.failures.conftest import SLOW, Shop, wait_for_exit

INCREMENTAL = ("run_etl", "--quiet")
FULL = (*INCREMENTAL, "--mode", "full")
LONG = {"ETL_BATCH_ORDERS": "3", "ETL_HEARTBEAT_SECONDS": "1"}  # 200 slices


def earlier_version(shop: Shop) -> Scene:
    """A control database that an earlier version has made."""
    older = shop.run("migrate", "orchestration", "0001", "--database", "default", "-v", "0")
    assert older.returncode == 0, older.stderr
    advice = yield Command()
    run_named_command(shop, advice)
    yield Command()


def active_run(shop: Shop) -> Scene:
    process = shop.start(*FULL, env=LONG)
    shop.wait_until(shop.stage_running("extract"), process)
    yield Command()
    assert wait_for_exit(process).returncode == 0
    yield Command()


def silent_run(shop: Shop) -> Scene:
    """Of a process of another machine, which was killed: the advice says when it counts as lost."""
    recovery = SLOW | {"ETL_LOST_AFTER_SECONDS": "12"}
    process = shop.start(*FULL, env=recovery)
    shop.wait_until(shop.stage_running("transform"), process)
    process.kill()
    process.communicate()
    shutil.rmtree(shop.folder / "processes")
    time.sleep(2.5)
    advice = yield Command(env=recovery)
    [seconds] = re.findall(r"Run it again in (\d+) s\.", advice)
    time.sleep(int(seconds))
    yield Command(env=recovery)


def mark_ahead(shop: Shop) -> Scene:
    shop.sql("dwh", "UPDATE etl_load SET high_water_mark = '2099-01-01 00:00:00'")
    advice = yield Command()
    run_named_command(shop, advice)
    yield Command()


def brakes(shop: Shop) -> Scene:
    shop.sql("payments_db", "DELETE FROM payments")
    advice = yield Command()
    [command] = [each for each in quoted(advice) if "--accept" in each]
    assert shop.run(*shlex.split(command)[1:]).returncode == 0
    yield Command()


def brakes_of_a_source_that_is_mended(shop: Shop) -> Scene:
    shop.sql("payments_db", "CREATE TABLE whole AS SELECT * FROM payments")
    shop.sql("payments_db", "DELETE FROM payments")
    yield Command()
    shop.sql("payments_db", "INSERT INTO payments SELECT * FROM whole")
    yield Command()


def damaged_batch(shop: Shop) -> Scene:
    shop.sql("payments_db", "DELETE FROM payments")
    assert shop.run(*INCREMENTAL).returncode == 5  # stopped by the brakes, with all that it has landed
    shop.sql("default", "UPDATE orchestration_batch SET checksum = checksum + 1")
    yield Command((*INCREMENTAL, "--resume", "2", "--accept", "test"))
    yield Command(env={"ETL_MAX_MONTH_PERCENT": "100", "ETL_MAX_DELETED_PERCENT": "100"})


def meanwhile(shop: Shop, act: Callable[[], object]) -> threading.Thread:
    """Act once the next run extracts."""

    def wait() -> None:
        while not any(stage == "extract" for stage, _ in shop.tasks("running")):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def other_ledger(shop: Shop) -> Scene:
    """Another control database publishes to the same warehouse."""
    env = {"CONTROL_DB_URL": f"sqlite:///{shop.folder}/other.sqlite3"}
    assert shop.run("migrate_all", "-v", "0", env=env).returncode == 0
    thread = meanwhile(shop, lambda: wait_for_exit(shop.start(*INCREMENTAL, env=env)))
    yield Command(FULL, LONG | {"ETL_BATCH_ORDERS": "1", "ETL_ATTEMPTS": "1"})
    thread.join()
    yield Command(FULL, SLOW)


def emptied_warehouse(shop: Shop) -> Scene:
    thread = meanwhile(shop, lambda: shop.sql("dwh", "DELETE FROM etl_load"))
    yield Command(FULL, SLOW | {"ETL_ATTEMPTS": "1"})
    thread.join()
    yield Command(FULL, SLOW)
