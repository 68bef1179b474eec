"""SIGKILL of a worker at a random instant, 100 times over full and incremental runs, and what it leaves: nothing."""

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
from tests.drills.ground import (
    TABLES,
    Program,
    Seen,
    change_shop,
    fresh,
    nothing_left,
    promise,
    start,
    start_beat,
    start_worker,
    state,
    stop_all,
    succeeded,
    until,
    workers,
)

MODES = ("full", "incremental")
PAUSE = 3.0  # seconds between two kills, at most
AIMS = ("", "", "", "plan", "extract", "transform", "load", "load")  # half of the kills wait for a worker at that stage
ROWS = "SELECT (to_jsonb(t) - 'run_id')::text FROM {} AS t ORDER BY 1"


def drill(times: int) -> Iterator[str]:
    kills = Kills(times or 100)
    twin = Twin()
    start_beat()
    kills.crew = workers(2)
    runs, slowest = 0, 0.0
    while kills.done < kills.wanted:
        change_shop(seed=runs)
        slowest = max(slowest, kills.over(MODES[runs % 2]))
        promise(not (wrong := twin.differences(MODES[runs % 2])), f"after run {runs + 1} the star is not an undisturbed run's: {wrong}")
        runs += 1
    nothing_left()
    yield f"{kills.done} kills over {runs} runs, {kills.active} while a run was active, held by the killed: {dict(kills.held)}"
    yield f"every star was row by row an undisturbed run's, keys included; {kills.resumed} times a run was lost and resumed"
    yield f"{len(kills.seen)} looks right after a kill saw the old or the new state; slowest run {slowest:.1f} s"
    yield f"from the kill to the task queued again: worst {max(kills.recoveries):.1f} s of {len(kills.recoveries)}"
    if times:
        return
    stop_all()
    yield f"with the settings' defaults: {recovery_by_default():.1f} s to the task queued again"


class Kills:
    """Who was killed, what they held, and how long that took to be taken up again."""

    def __init__(self, wanted: int):
        self.wanted = wanted
        self.random = random.Random(20)
        self.crew: list[Program] = []
        self.done = self.active = self.resumed = 0
        self.held: Counter[str] = Counter()
        self.orphans: dict[tuple[int, object], float] = {}
        self.recoveries = [0.0]
        self.seen: list[Seen] = []

    def over(self, mode: str) -> float:
        """One run with kills at random instants until it has succeeded; its seconds."""
        before, looks = state(), len(self.seen)
        began = time.monotonic()
        run = start(mode)
        due, aim = began + self.random.random() * PAUSE, self.random.choice(AIMS)
        while fresh(run).is_active or run.state == State.LOST:
            if run.state == State.LOST:
                self.resumed += 1
                run = api.resume_run(run.pk, queue=True)
            if self.done < self.wanted and time.monotonic() > due and (victim := self.victim(aim, run)):
                self.kill(victim, run)
                due, aim = time.monotonic() + self.random.random() * PAUSE, self.random.choice(AIMS)
            if time.monotonic() > due + PAUSE:
                aim = ""
            self.look_after_orphans()
            promise(time.monotonic() - began < 300, f"run {run.pk} is stuck")
            time.sleep(0.02)
        self.look_after_orphans()
        succeeded(run)
        mixed = [look for look in self.seen[looks:] if look not in (before, state())]
        promise(not mixed, f"a reader saw neither the old nor the new state: {mixed[:1]}")
        return time.monotonic() - began

    def victim(self, aim: str, run: Run) -> Program | None:
        """Anyone who is up; or whoever is at that stage."""
        up = [worker for worker in self.crew if worker.is_up()]
        if not aim:
            return self.random.choice(up) if up else None
        at_it = {task.worker.rpartition(":")[2] for task in run.tasks.filter(stage=aim, state=State.RUNNING)}
        return next((worker for worker in up if at_it and at_it & {str(pid) for pid in worker.pids()}), None)

    def kill(self, victim: Program, run: Run) -> None:
        """One of the crew, whatever it is at; another takes its place."""
        self.crew.remove(victim)
        pids = {str(pid) for pid in victim.pids()}
        self.active += fresh(run).is_active
        victim.kill()
        self.seen.append(state())
        self.done += 1
        self.crew.append(start_worker())
        for task in Task.objects.filter(state=State.RUNNING):
            if task.worker.rpartition(":")[2] in pids:
                self.held[task.stage] += 1
                self.orphans[task.pk, task.claim] = time.monotonic()

    def look_after_orphans(self) -> None:
        held = set(Task.objects.filter(state=State.RUNNING).values_list("pk", "claim")) if self.orphans else set()
        for orphan in set(self.orphans) - held:
            self.recoveries.append(time.monotonic() - self.orphans.pop(orphan))


class Twin:
    """A control database and a warehouse of their own, where the same runs go undisturbed."""

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
        """The same run there; then what one star has and the other has not."""
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
    """One kill in a load that waits for a lock, with heartbeats, reaper and patience as they are without a setting."""
    env = {"ETL_HEARTBEAT_SECONDS": "5", "ETL_LOST_AFTER_SECONDS": "30", "ETL_REAP_SECONDS": "15"}
    (worker,) = workers(1, **env)
    run = start("full")
    until(lambda: run.tasks.filter(state=State.RUNNING).exists(), "a task runs", every=0.002)
    worker.signal(signal.SIGSTOP)
    claim = run.tasks.filter(state=State.RUNNING).values_list("claim", flat=True)[0]
    worker.kill()
    began = time.monotonic()
    start_beat(**env)
    workers(1, **env)
    until(lambda: not run.tasks.filter(state=State.RUNNING, claim=claim).exists(), "the task is queued again", 90)
    took = time.monotonic() - began
    succeeded(run)
    return took
