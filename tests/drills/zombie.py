"""A worker stopped during the load is continued after another has done its task: it commits nothing."""

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from apps.orchestration.models import Batch, State, Task
from apps.warehouse.loads import Load
from tests.drills.harness import (
    change_shop,
    read_state,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_beat,
    start_queued_run,
    task_running,
    wait_for_success,
    wait_until,
    workers,
)

AWAKE_S = 5


def drill(times: int) -> Iterator[str]:
    rounds, rng = times or 5, random.Random(9)
    start_beat()
    stopped_in_load, recoveries = 0, []
    for number in range(rounds):
        change_shop(seed=2_000 + number)
        (old,) = workers(1)
        run = start_queued_run("full")
        wait_until(lambda run=run: (task := task_running(run, "load")()) and task.session, "the load is under way", every=0.002)
        time.sleep(rng.random() * 0.15)
        old.signal(signal.SIGSTOP)
        began = time.monotonic()
        task = Task.objects.get(run=run, stage="load")
        stopped_in_load += task.state == State.RUNNING
        (new,) = workers(1)
        wait_for_success(run)
        recoveries.append(time.monotonic() - began)
        before_waking = read_state(), read_ledger_state(run.pk)
        old.signal(signal.SIGCONT)
        time.sleep(AWAKE_S)
        require((read_state(), read_ledger_state(run.pk)) == before_waking, "the old worker wrote something when it woke up")
        require(Load.objects.filter(run_uuid=run.uuid).count() == 1, "published twice")
        for worker in (old, new):
            worker.kill()
        wait_for_success(run)
    require(stopped_in_load, "no worker was stopped inside the load")
    commit_recovery_s = stop_during_commit()
    require_nothing_left()
    require_correct_warehouse()
    yield f"{rounds} workers stopped, {stopped_in_load} of them in the load; awake again for {AWAKE_S} s each, none wrote anything"
    yield f"from the stop to the run's end by another worker: worst {max(recoveries):.1f} s"
    yield f"stopped in the warehouse's commit, while it locks the ledger's row: {commit_recovery_s:.1f} s to the run's end, published once"


def stop_during_commit() -> float:
    """Stop a worker while the warehouse commits. Return the seconds until another worker has finished the run."""
    with psycopg.connect(os.environ["DWH_URL"], autocommit=True) as connection:
        connection.execute("ALTER DATABASE dwh SET synchronous_commit = on")
        (old,) = workers(1)
        set_standby(connection, "nobody")
        run = start_queued_run("full")
        wait_until(lambda: connection.execute(COMMITS).fetchone(), "the commit is under way")
        old.signal(signal.SIGSTOP)
        began = time.monotonic()
        set_standby(connection, "")
        wait_until(lambda: not connection.execute(COMMITS).fetchone(), "the commit is done")
        connection.execute("ALTER DATABASE dwh RESET synchronous_commit")
    workers(1)
    wait_for_success(run)
    took = time.monotonic() - began
    require(Load.objects.filter(run_uuid=run.uuid).count() == 1, "published twice, or not at all")
    old.signal(signal.SIGCONT)
    time.sleep(AWAKE_S)
    wait_for_success(run)
    return took


COMMITS = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def set_standby(connection: psycopg.Connection[Any], name: str) -> None:
    """Name the synchronous standby: while a commit waits for one that is missing, it takes as long as the drill needs."""
    connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    connection.execute("SELECT pg_reload_conf()")


def read_ledger_state(run_id: int) -> tuple[object, ...]:
    """Return the ledger's rows of the run: tasks with state, attempt and claim, and the number of batches."""
    tasks = Task.objects.filter(run=run_id).values_list("pk", "state", "attempt", "claim")
    return (*tasks, Batch.objects.filter(run=run_id).count())
