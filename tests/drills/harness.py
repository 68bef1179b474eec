"""The drills' harness: a small shop, workers and beat as processes, and the state of the warehouse."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connections

from apps.orchestration import api
from apps.orchestration.models import ACTIVE, Mode, Run, State, Task, Trigger

ORDERS = 3_000
FOLDER = Path(tempfile.mkdtemp(prefix="techmarket-drills-"))
TABLES = ("dim_date", "dim_region", "dim_category", "dim_product", "dim_customer", "dim_employee", "fact_sales")
WRITES = ("inserted", "updated", "deleted", "derived")
WarehouseState = tuple[Any, ...]


class DrillFailed(Exception):
    """A guarantee does not hold."""


class Skipped(Exception):
    """This machine does not allow the drill."""


def require(condition: object, failure: str) -> None:
    if not condition:
        raise DrillFailed(failure)


def wait_until(condition: Callable[[], Any], description: str, seconds: float = 60, every: float = 0.01) -> float:
    """Wait for the condition. Return the seconds that it took; raise DrillFailed after `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise DrillFailed(f"not within {seconds:.0f} s: {description}. {describe_active_run()} Logs: {FOLDER}")
        time.sleep(every)
    return time.monotonic() - began


# --- The shop ---


def prepare() -> None:
    call_command("migrate_all", verbosity=0)
    call_command("generate_data", "--replace", "--quiet", f"--orders={ORDERS}", stdout=io.StringIO())


def change_shop(seed: int, count: int = 30) -> None:
    call_command("generate_data", "--quiet", f"--changes={count}", f"--seed={seed}", stdout=io.StringIO())


# --- Processes ---


class Program:
    """A Celery process with its children, in a process group of its own."""

    alive: list["Program"] = []
    started = 0

    def __init__(self, kind: str, *options: str, app: str = "techmarket", prefix: Sequence[str] = (), **env: str):
        Program.started += 1
        self.log = FOLDER / f"{Program.started}-{kind}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "celery", "-A", app, kind, "--loglevel", "info", *options],
                env=os.environ | env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        Program.alive.append(self)

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def pids(self) -> set[int]:
        """Return the process ids of the whole group."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(folder.name)) == self.process.pid:
                    found.add(int(folder.name))
            except ProcessLookupError:
                continue
        return found

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()
        Program.alive.remove(self)

    def is_up(self) -> bool:
        return " ready." in self.log.read_text()


def start_worker(app: str = "techmarket", concurrency: int = 2, prefix: Sequence[str] = (), **env: str) -> Program:
    options = ("-n", f"drill{Program.started}@%h", "--concurrency", str(concurrency), "--without-gossip", "--without-mingle")
    return Program("worker", *options, app=app, prefix=prefix, **env)


def workers(count: int, **options: Any) -> list[Program]:
    """Start `count` workers and wait until they are ready."""
    started = [start_worker(**options) for _ in range(count)]
    for worker in started:
        wait_until(worker.is_up, "a worker is ready", every=0.1)
    return started


def start_beat(**env: str) -> Program:
    return Program("beat", "--pidfile=", **env)


def stop_all() -> None:
    """Kill the processes and end the runs that a drill has left."""
    connections.close_all()
    for program in list(Program.alive):
        program.kill()
    for run in Run.objects.filter(state__in=ACTIVE):
        Task.objects.filter(run=run).update(state=State.LOST)
        run.transition(*ACTIVE, to=State.LOST)


# --- Runs ---


def start_queued_run(mode: str = "full") -> Run:
    """Start a run that workers are to execute. A full one rereads, to have something to do."""
    run = api.start_run(mode, Trigger.API, "drill", queue=True, reread=mode == Mode.FULL)
    require(run.state == State.QUEUED, f"the run is {run.state}: {run.cause}")
    return run


def wait_for_end(run: Run, seconds: float = 120) -> Run:
    wait_until(lambda: not fresh(run).is_active, f"run {run.pk} ends", seconds, every=0.03)
    return run


def wait_for_success(run: Run, seconds: float = 120) -> Run:
    wait_for_end(run, seconds)
    require(run.state == State.SUCCEEDED, f"run {run.pk} {run.state}: {run.cause} Logs: {FOLDER}")
    return run


def execute_here(mode: str = "full") -> Run:
    """Execute an undisturbed run in this process. A full one rereads, whatever the fingerprints say."""
    run = api.start_run(mode, Trigger.API, "drill", reread=mode == Mode.FULL)
    require(run.state == State.QUEUED, f"the run is {run.state}: {run.cause}")
    api.execute_run(run)
    return fresh(run)


def fresh(run: Run) -> Run:
    run.refresh_from_db()
    return run


def task_running(run: Run, stage: str) -> Callable[[], Task | None]:
    return lambda: run.tasks.filter(stage=stage, state=State.RUNNING).first()


def describe_active_run() -> str:
    """Describe the active run and its unfinished tasks, for an error message."""
    run = Run.objects.filter(state__in=ACTIVE).first()
    if run is None:
        return "No run is active."
    undone = [f"{task}: {task.state}, attempt {task.attempt}, {task.cause}" for task in run.tasks.exclude(state=State.SUCCEEDED)[:5]]
    return f"Run {run.pk} is {run.state}; {'; '.join(undone)}."


# --- The warehouse ---

STATE = """SELECT (SELECT count(*) FROM etl_load), f.*, c.*, p.* FROM
(SELECT count(*), sum(net_amount), sum(paid_amount), sum(order_item_id * 31 + quantity), max(run_id) FROM fact_sales) AS f,
(SELECT count(*), max(customer_key) FROM dim_customer) AS c, (SELECT sum(price), sum(product_key) FROM dim_product) AS p"""


def read_state() -> WarehouseState:
    """Return what one query sees of the warehouse: the number of loads, counts and sums."""
    return query("dwh", STATE)[0]


def query(alias: str, sql: str, *parameters: object) -> list[WarehouseState]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def require_correct_warehouse() -> None:
    """Require that an undisturbed full run has nothing to correct."""
    run = execute_here("full")
    corrected = {table: counts for table, counts in api.row_counts(run).items() if any(counts[name] for name in WRITES)}
    require(not corrected, f"the warehouse was wrong: run {run.pk} had to write {corrected}")


def require_nothing_left() -> None:
    """Require that no run or task is active, and that no lock, open transaction or snapshot is left."""
    active = Run.objects.filter(state__in=ACTIVE).count() + Task.objects.filter(state=State.RUNNING).count()
    require(not active, f"{active} runs or tasks are stuck. {describe_active_run()}")
    left = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' AND datname = current_database()"
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = %s)"
    for alias in ("default", "dwh"):
        wait_until(lambda alias=alias: query(alias, left) == [(0,)], f"no idle transaction in {alias}", 5)
    wait_until(lambda: query("dwh", locks, connections["dwh"].settings_dict["NAME"]) == [(0,)], "no advisory lock", 5)
    snapshots = """SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id
        WHERE db IN %s"""  # other tests share the server
    names = tuple(connections[alias].settings_dict["NAME"] for alias in settings.SOURCES)
    wait_until(lambda: query("orders_db", snapshots, names) == [(0,)], "no open snapshot", 5)
