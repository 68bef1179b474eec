"""The local worker pool: several processes load the same rows as one, even if one of them dies."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.failures.conftest import PROCESS_TIMEOUT_S, Shop, needs_servers, passwords, read_message, terminate_sessions

pytestmark = needs_servers
# 600 orders in 60 slices: enough for a worker to start before they are done.
SHARED = {"ETL_BATCH_ORDERS": "10", "ETL_PROCESSES": "2", "ETL_LOST_AFTER_SECONDS": "5", "ETL_HEARTBEAT_SECONDS": "1"}


def worker_pids(shop: Shop, state: str = "succeeded") -> set[int]:
    """Return the ids of the processes that have, or had, a task of the second run."""
    query = f"SELECT DISTINCT worker FROM orchestration_task WHERE run_id = 2 AND state = '{state}' AND worker <> ''"
    return {int(name.rsplit(":", 1)[1]) for (name,) in shop.sql("default", query)}


def is_alive(pid: int) -> bool:
    """Return True unless the process has exited or is a zombie."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_alive(pid)


def sum_sales(shop: Shop) -> list[tuple[object, ...]]:
    return shop.sql("dwh", "SELECT COUNT(*), SUM(net_amount), SUM(paid_amount), SUM(order_item_id * quantity) FROM fact_sales")


def test_two_processes_load_the_same_rows_as_one(shop: Shop) -> None:
    assert shop.run("run_etl", "--mode", "full", "--reread", "--quiet", env=SHARED).returncode == 0
    assert len(worker_pids(shop)) == 2
    shared_sums = sum_sales(shop)
    alone = shop.run("run_etl", "--mode", "full", "--reread", "--json", env={"ETL_PROCESSES": "1"})
    assert alone.returncode == 0 and sum_sales(shop) == shared_sums
    assert '"updated": 0' in alone.stdout and '"inserted": 1' not in alone.stdout


def test_small_incremental_run_starts_no_worker(shop: Shop) -> None:
    """Only slices of the fact count, not those of customers."""
    assert shop.run("run_etl", "--quiet", env=SHARED | {"ETL_BATCH_ORDERS": "40"}).returncode == 0
    assert len(worker_pids(shop)) == 1


def test_task_of_a_dead_worker_is_done_by_another(shop: Shop) -> None:
    process = shop.start("run_etl", "--mode", "full", "--reread", "--quiet", env=SHARED)
    shop.wait_until(lambda: worker_pids(shop, "running") - {process.pid}, process)
    (worker_pid,) = worker_pids(shop, "running") - {process.pid} or worker_pids(shop) - {process.pid}
    os.kill(worker_pid, signal.SIGKILL)
    assert process.communicate(timeout=300) == ("", "") and process.returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "succeeded"]
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_task WHERE run_id = 2 AND state <> 'succeeded'") == [(0,)]
    lost = shop.sql("default", "SELECT worker, cause FROM orchestration_attempt")
    assert all(worker.endswith(f":{worker_pid}") and read_message(cause) == f"{worker} died." for worker, cause in lost)


def test_worker_exits_when_its_parent_dies(shop: Shop) -> None:
    """It exits at once, while the dead parent is still a zombie and its process id exists."""
    process = shop.start("run_etl", "--mode", "full", "--reread", "--quiet", env=SHARED)
    shop.wait_until(lambda: worker_pids(shop) - {process.pid}, process)
    (worker_pid,) = worker_pids(shop) - {process.pid}
    process.kill()
    assert wait_until_gone(worker_pid, PROCESS_TIMEOUT_S)
    process.communicate(timeout=10)


def start_pool_worker(shop: Shop, **env: str) -> "subprocess.Popen[str]":
    """Start a worker without a parent's run: run 2 is to be planned next year, so the worker keeps polling the ledger."""
    assert shop.run("run_etl", "--mode", "full", "--reread", "--no-wait").returncode == 0
    shop.sql("default", "UPDATE orchestration_task SET not_before = NOW() + INTERVAL '1 year' WHERE run_id = 2")
    process = shop.start_python("-m", "apps.orchestration.worker.process", "2", "0", env=env, stdin=subprocess.PIPE)
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'techmarket'"
    shop.wait_until(lambda: shop.sql("default", f"{sessions} AND query LIKE '%orchestration_task%'"), process)
    return process


def test_worker_that_loses_the_database_exits_without_output(shop: Shop) -> None:
    """Between two tasks no attempt records the failure; the worker's traceback must not reach the command's stderr."""
    process = start_pool_worker(shop)
    terminate_sessions(shop, "default")
    assert process.wait(PROCESS_TIMEOUT_S) == 1 and process.communicate() == ("", "")


def test_json_log_records_why_a_worker_left(shop: Shop) -> None:
    process = start_pool_worker(shop, LOG_FORMAT="json")
    terminate_sessions(shop, "default")
    assert process.wait(PROCESS_TIMEOUT_S) == 1  # before the pipe to it is closed: that too would end it
    out, err = process.communicate()
    assert (out, err.count("\n")) == ("", 1)
    assert '"worker left"' in err and "control database (127.0.0.1:" in err and not any(password in err for password in passwords())


def test_quiet_silences_the_workers_log(shop: Shop) -> None:
    result = shop.run("run_etl", "--mode", "full", "--reread", "--quiet", env=SHARED | {"LOG_FORMAT": "json"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(worker_pids(shop)) == 2


def test_traceback_option_runs_in_one_process(shop: Shop) -> None:
    assert shop.run("run_etl", "--mode", "full", "--reread", "-v", "3", env=SHARED).returncode == 0
    assert len(worker_pids(shop)) == 1
