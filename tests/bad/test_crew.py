"""A run shared with processes beside the command's: the same star, whoever of them dies."""

import os
import signal
import time
from pathlib import Path

from tests.bad.conftest import Shop, needs_servers

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
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0
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
    assert gone(member, 10)
    process.communicate(timeout=10)
