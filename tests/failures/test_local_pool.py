"""A run shared with processes beside the command's: the same star, whoever of them dies."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.failures.conftest import PATIENCE, Shop, cut_postgres, needs_servers, passwords

pytestmark = needs_servers
# 600 orders in 60 slices: enough for a member to be there before they are done.
SHARED = {"ETL_BATCH_ORDERS": "10", "ETL_PROCESSES": "2", "ETL_LOST_AFTER_SECONDS": "5", "ETL_HEARTBEAT_SECONDS": "1"}


def workers(shop: Shop, state: str = "succeeded") -> set[int]:
    """Process ids of those who have, or had, a task of the second run."""
    query = f"SELECT DISTINCT worker FROM orchestration_task WHERE run_id = 2 AND state = '{state}' AND worker <> ''"
    return {int(name.rsplit(":", 1)[1]) for (name,) in shop.sql("default", query)}


def is_alive(pid: int) -> bool:
    """A zombie is not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_alive(pid)


def sales(shop: Shop) -> list[tuple[object, ...]]:
    return shop.sql("dwh", "SELECT COUNT(*), SUM(net_amount), SUM(paid_amount), SUM(order_item_id * quantity) FROM fact_sales")


def test_both_work_and_the_star_is_the_one_of_one_process(shop: Shop) -> None:
    assert shop.run("run_etl", "--mode", "full", "--quiet", env=SHARED).returncode == 0
    assert len(workers(shop)) == 2
    shared = sales(shop)
    alone = shop.run("run_etl", "--mode", "full", "--json", env={"ETL_PROCESSES": "1"})
    assert alone.returncode == 0 and sales(shop) == shared
    assert '"updated": 0' in alone.stdout and '"inserted": 1' not in alone.stdout


def test_an_incremental_run_of_few_orders_starts_nobody(shop: Shop) -> None:
    """Not even where customers are many slices."""
    assert shop.run("run_etl", "--quiet", env=SHARED | {"ETL_BATCH_ORDERS": "40"}).returncode == 0
    assert len(workers(shop)) == 1


def test_what_a_dead_member_had_in_hand_is_done_by_another(shop: Shop) -> None:
    process = shop.start("run_etl", "--mode", "full", "--quiet", env=SHARED)
    shop.waits_for(lambda: workers(shop, "running") - {process.pid}, process)
    (member,) = workers(shop, "running") - {process.pid} or workers(shop) - {process.pid}
    os.kill(member, signal.SIGKILL)
    assert process.communicate(timeout=300) == ("", "") and process.returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "succeeded"]
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_task WHERE run_id = 2 AND state <> 'succeeded'") == [(0,)]
    lost = shop.sql("default", "SELECT worker, cause FROM orchestration_attempt")
    assert all(worker.endswith(f":{member}") and cause == f"{worker} has died." for worker, cause in lost)


def test_a_member_leaves_with_its_caller(shop: Shop) -> None:
    """At once, though nobody has taken notice of the caller's death: its process number is still there."""
    process = shop.start("run_etl", "--mode", "full", "--quiet", env=SHARED)
    shop.waits_for(lambda: workers(shop) - {process.pid}, process)
    (member,) = workers(shop) - {process.pid}
    process.kill()
    assert gone(member, PATIENCE)
    process.communicate(timeout=10)


def member_of_a_run_that_waits(shop: Shop, **env: str) -> "subprocess.Popen[str]":
    """A member beside nobody: run 2 is planned next year, and so it looks at the ledger again and again."""
    assert shop.run("run_etl", "--mode", "full", "--no-wait").returncode == 0
    shop.sql("default", "UPDATE orchestration_task SET not_before = NOW() + INTERVAL '1 year' WHERE run_id = 2")
    process = shop.start_python("-m", "apps.orchestration.worker.process", "2", "0", env=env, stdin=subprocess.PIPE)
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'techmarket'"
    shop.waits_for(lambda: shop.sql("default", f"{sessions} AND query LIKE '%orchestration_task%'"), process)
    return process


def test_a_member_that_is_cut_off_leaves_without_a_word(shop: Shop) -> None:
    """Between two tasks, where no attempt records it: a traceback of its stood on the command's stderr, beside the one sentence."""
    process = member_of_a_run_that_waits(shop)
    cut_postgres(shop, "default")
    assert process.wait(PATIENCE) == 1 and process.communicate() == ("", "")


def test_a_collector_hears_why_a_member_left(shop: Shop) -> None:
    process = member_of_a_run_that_waits(shop, LOG_FORMAT="json")
    cut_postgres(shop, "default")
    assert process.wait(PATIENCE) == 1  # before the pipe to it is closed: that too would end it
    out, err = process.communicate()
    assert (out, err.count("\n")) == ("", 1)
    assert '"member has left"' in err and "control database (127.0.0.1:" in err and not any(password in err for password in passwords())


def test_quiet_keeps_the_log_of_members_silent_too(shop: Shop) -> None:
    result = shop.run("run_etl", "--mode", "full", "--quiet", env=SHARED | {"LOG_FORMAT": "json"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(workers(shop)) == 2


def test_who_asks_for_a_traceback_gets_a_run_in_one_process(shop: Shop) -> None:
    assert shop.run("run_etl", "--mode", "full", "-v", "3", env=SHARED).returncode == 0
    assert len(workers(shop)) == 1
