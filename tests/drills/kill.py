"""SIGKILL a worker at a random instant, 100 times during full and incremental runs: nothing is lost or left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
from django.db import connections

from apps.orchestration import api
from apps.orchestration.models import Run, State, Task
from apps.warehouse.models import Prepared
from tests.drills.harness import (
    TABLES,
    Program,
    WarehouseState,
    change_shop,
    fresh,
    read_state,
    require,
    require_nothing_left,
    start_beat,
    start_queued_run,
    start_worker,
    stop_all,
    wait_for_success,
    wait_until,
    workers,
)

MODES = ("full", "incremental")
MAX_PAUSE_S = 3.0  # between two kills
# Seven of ten kills wait for a worker at that stage.
AIMS = (
    "",
    "",
    "",
    "plan",
    "extract",
    "transform",
    "prepare",
    "prepare",
    "load",
    "load",
)
ROWS = "SELECT (to_jsonb(t) - 'run_id')::text FROM {} AS t ORDER BY 1"


def drill(times: int) -> Iterator[str]:
    kills = Kills(times or 100)
    twin = Twin()
    start_beat()
    kills.workers = workers(2)
    runs, slowest = 0, 0.0
    while kills.done < kills.total:
        change_shop(seed=runs)
        slowest = max(slowest, kills.execute_run(MODES[runs % 2]))
        require(
            not (wrong := twin.differences(MODES[runs % 2])),
            f"after run {runs + 1} the warehouse differs from an undisturbed run's: {wrong}",
        )
        require(not (left := find_leftovers()), f"after run {runs + 1} tables of dead attempts are left: {left}")
        runs += 1
    require_nothing_left()
    yield f"{kills.done} kills over {runs} runs, {kills.active} while a run was active, held by the killed: {dict(kills.held)}"
    yield f"after every run all rows, keys included, were those of an undisturbed run; {kills.resumed} times a run was lost and resumed"
    yield f"{len(kills.seen)} queries right after a kill saw the old or the new state; slowest run {slowest:.1f} s"
    yield f"from the kill to the task queued again: worst {max(kills.recoveries):.1f} s of {len(kills.recoveries)}"
    if times:
        return
    stop_all()
    yield f"with the settings' defaults: {recovery_by_default():.1f} s to the task queued again"


def find_leftovers() -> list[str]:
    """Return the tables of the warehouse that no model and no partition is."""
    with connections["dwh"].cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname ~ '^(fact|etl).*[0-9]'")
        return [*(row[0] for row in cursor.fetchall()), *Prepared.objects.values_list("relation", flat=True)]


class Kills:
    """Kills workers; records the tasks that they held and how long these took to be requeued."""

    def __init__(self, total: int):
        self.total = total
        self.random = random.Random(20)
        self.workers: list[Program] = []
        self.done = self.active = self.resumed = 0
        self.held: Counter[str] = Counter()
        self.orphans: dict[tuple[int, object], float] = {}
        self.recoveries = [0.0]
        self.seen: list[WarehouseState] = []

    def execute_run(self, mode: str) -> float:
        """Execute one run with kills at random instants until it has succeeded. Return its seconds."""
        before, seen_before = read_state(), len(self.seen)
        began = time.monotonic()
        run = start_queued_run(mode)
        kill_at, aim = began + self.random.random() * MAX_PAUSE_S, self.random.choice(AIMS)
        while fresh(run).is_active or run.state == State.LOST:
            if run.state == State.LOST:
                self.resumed += 1
                run = api.resume_run(run.pk, queue=True)
            if self.done < self.total and time.monotonic() > kill_at and (victim := self.victim(aim, run)):
                self.kill(victim, run)
                kill_at, aim = time.monotonic() + self.random.random() * MAX_PAUSE_S, self.random.choice(AIMS)
            if time.monotonic() > kill_at + MAX_PAUSE_S:
                aim = ""
            self.record_recoveries()
            require(time.monotonic() - began < 300, f"run {run.pk} is stuck")
            time.sleep(0.02)
        self.record_recoveries()
        wait_for_success(run)
        mixed = [seen for seen in self.seen[seen_before:] if seen not in (before, read_state())]
        require(not mixed, f"a reader saw neither the old nor the new state: {mixed[:1]}")
        return time.monotonic() - began

    def victim(self, aim: str, run: Run) -> Program | None:
        """Return a worker that is ready; with `aim`, one that executes a task of that stage, or None."""
        up = [worker for worker in self.workers if worker.is_up()]
        if not aim:
            return self.random.choice(up) if up else None
        pids = {task.worker.rpartition(":")[2] for task in run.tasks.filter(stage=aim, state=State.RUNNING)}
        return next((worker for worker in up if pids and pids & {str(pid) for pid in worker.pids()}), None)

    def kill(self, victim: Program, run: Run) -> None:
        """Kill the worker, start another in its place, and record the tasks that it held."""
        self.workers.remove(victim)
        pids = {str(pid) for pid in victim.pids()}
        self.active += fresh(run).is_active
        victim.kill()
        self.seen.append(read_state())
        self.done += 1
        self.workers.append(start_worker())
        for task in Task.objects.filter(state=State.RUNNING):
            if task.worker.rpartition(":")[2] in pids:
                self.held[task.stage] += 1
                self.orphans[task.pk, task.claim] = time.monotonic()

    def record_recoveries(self) -> None:
        still_held = set(Task.objects.filter(state=State.RUNNING).values_list("pk", "claim")) if self.orphans else set()
        for orphan in set(self.orphans) - still_held:
            self.recoveries.append(time.monotonic() - self.orphans.pop(orphan))


class Twin:
    """A second control database and warehouse, where the same runs are executed undisturbed."""

    def __init__(self) -> None:
        server = os.environ["TEST_POSTGRES_URL"]
        self.urls = {name: urlsplit(server)._replace(path=f"/{name.lower()}_twin").geturl() for name in ("CONTROL_DB_URL", "DWH_URL")}
        with psycopg.connect(server + "/postgres", autocommit=True) as connection:
            for url in self.urls.values():
                connection.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]}")
                connection.execute(f"CREATE DATABASE {urlsplit(url).path[1:]}")
        self.manage("migrate_all", "--verbosity", "0")
        with psycopg.connect(self.urls["DWH_URL"]) as connection:
            self.empty = not connection.execute("SELECT 1 FROM etl_load").fetchone()

    def manage(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "manage.py", *arguments], env=os.environ | self.urls, check=True)

    def differences(self, mode: str) -> list[str]:
        """Execute the same run on the twin. Return the first differences between the two warehouses."""
        self.manage("run_etl", "--mode", mode, "--quiet")
        found = []
        with psycopg.connect(self.urls["DWH_URL"]) as connection, connections["dwh"].cursor() as cursor:
            for table in TABLES:
                undisturbed = connection.execute(ROWS.format(table)).fetchall()
                cursor.execute(ROWS.format(table))
                disturbed = cursor.fetchall()
                found += [f"{table}: {row}" for row in {*undisturbed} ^ {*disturbed}]
                found += [f"{table}: {len(disturbed)} rows, not {len(undisturbed)}"] if len(disturbed) != len(undisturbed) else []
        return found[:4]


def recovery_by_default() -> float:
    """Kill a worker that holds a task, with the default intervals. Return the seconds until the task is queued again."""
    env = {"ETL_HEARTBEAT_SECONDS": "5", "ETL_LOST_AFTER_SECONDS": "30", "ETL_REAP_SECONDS": "15"}
    (worker,) = workers(1, **env)
    run = start_queued_run("full")
    wait_until(lambda: run.tasks.filter(state=State.RUNNING).exists(), "a task runs", every=0.002)
    worker.signal(signal.SIGSTOP)
    claim = run.tasks.filter(state=State.RUNNING).values_list("claim", flat=True)[0]
    worker.kill()
    began = time.monotonic()
    start_beat(**env)
    workers(1, **env)
    wait_until(lambda: not run.tasks.filter(state=State.RUNNING, claim=claim).exists(), "the task is queued again", 90)
    took = time.monotonic() - began
    wait_for_success(run)
    return took
