"""A worker stopped in the load wakes up when another has done its task: it commits nothing."""

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from apps.orchestration.models import Batch, State, Task
from apps.warehouse.loads import Load
from tests.drills.ground import (
    change_shop,
    nothing_left,
    promise,
    right_star,
    running,
    start,
    start_beat,
    state,
    succeeded,
    until,
    workers,
)

AWAKE = 5


def drill(times: int) -> Iterator[str]:
    rounds, rng = times or 5, random.Random(9)
    start_beat()
    overtaken, recoveries = 0, []
    for number in range(rounds):
        change_shop(seed=2_000 + number)
        (old,) = workers(1)
        run = start("full")
        until(lambda run=run: (task := running(run, "load")()) and task.session, "the load is under way", every=0.002)
        time.sleep(rng.random() * 0.15)
        old.signal(signal.SIGSTOP)
        began = time.monotonic()
        task = Task.objects.get(run=run, stage="load")
        overtaken += task.state == State.RUNNING
        (new,) = workers(1)
        succeeded(run)
        recoveries.append(time.monotonic() - began)
        known = state(), counts(run.pk)
        old.signal(signal.SIGCONT)
        time.sleep(AWAKE)
        promise((state(), counts(run.pk)) == known, "the old worker wrote something when it woke up")
        promise(Load.objects.filter(run_uuid=run.uuid).count() == 1, "published twice")
        for worker in (old, new):
            worker.kill()
        succeeded(run)
    promise(overtaken, "no worker was stopped inside the load")
    in_commit = stopped_in_commit()
    nothing_left()
    right_star()
    yield f"{rounds} workers stopped, {overtaken} of them in the load; awake again for {AWAKE} s each, none wrote anything"
    yield f"from the stop to the run's end by another worker: worst {max(recoveries):.1f} s"
    yield f"stopped in the warehouse's commit, with the ledger's row in its hand: {in_commit:.1f} s to the run's end, published once"


def stopped_in_commit() -> float:
    """The commit comes through; nobody hears of it from this worker."""
    with psycopg.connect(os.environ["DWH_URL"], autocommit=True) as connection:
        connection.execute("ALTER DATABASE dwh SET synchronous_commit = on")
        (old,) = workers(1)
        standby(connection, "nobody")
        run = start("full")
        until(lambda: connection.execute(COMMITS).fetchone(), "the commit is under way")
        old.signal(signal.SIGSTOP)
        began = time.monotonic()
        standby(connection, "")
        until(lambda: not connection.execute(COMMITS).fetchone(), "the commit is done")
        connection.execute("ALTER DATABASE dwh RESET synchronous_commit")
    workers(1)
    succeeded(run)
    took = time.monotonic() - began
    promise(Load.objects.filter(run_uuid=run.uuid).count() == 1, "published twice, or not at all")
    old.signal(signal.SIGCONT)
    time.sleep(AWAKE)
    succeeded(run)
    return took


COMMITS = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def standby(connection: psycopg.Connection[Any], name: str) -> None:
    """While it waits for a standby, a commit takes as long as we like."""
    connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    connection.execute("SELECT pg_reload_conf()")


def counts(run_id: int) -> tuple[object, ...]:
    """What the ledger holds of the run, states and attempts included."""
    tasks = Task.objects.filter(run=run_id).values_list("pk", "state", "attempt", "claim")
    return (*tasks, Batch.objects.filter(run=run_id).count())
