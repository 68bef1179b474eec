"""Cancel at each stage, and while the load waits for a lock or is stalled: it ends within ten seconds. Resume rereads no landed slice."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

import MySQLdb
import psycopg
from django.db import connections

from apps.orchestration import api
from apps.orchestration.models import Batch, Run, Stage, State
from tests.drills.harness import (
    change_shop,
    execute_here,
    query,
    read_state,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_beat,
    start_queued_run,
    task_running,
    wait_for_end,
    wait_for_success,
    wait_until,
    workers,
)
from tests.drills.proxy import PASS, SWALLOW, Proxy

Obstacle = Callable[[], AbstractContextManager[object]]
LIMIT_S = 10.0
COPIED_BYTES = 200_000  # after so many the network goes silent: in the middle of the fact's COPY


def drill(times: int) -> Iterator[str]:
    start_beat()
    execute_here("full")
    cases: list[tuple[str, str, Obstacle]] = [
        ("plan, waiting for a table", Stage.PLAN, lambda: source_locked("orders")),
        ("extract, waiting for a table", Stage.EXTRACT, lambda: source_locked("order_items")),
        ("extract", Stage.EXTRACT, nullcontext),
        ("transform", Stage.TRANSFORM, nullcontext),
        ("load", Stage.LOAD, nullcontext),
        ("load, waiting for a lock", Stage.LOAD, warehouse_locked),
    ]
    (worker,) = workers(1)
    for number, (name, stage, obstacle) in enumerate(cases):
        change_shop(seed=3_000 + number)
        run, took = cancel_during(stage, obstacle)
        yield f"in {name}: ended in {took:.1f} s; {resume_and_count_reads(run)}"
    worker.kill()
    yield f"in load, its COPY stalled by the network: ended in {cancel_stalled_copy():.1f} s"
    require_nothing_left()
    require_correct_warehouse()


def cancel_during(stage: str, obstacle: Obstacle = nullcontext, before: Callable[[], None] = lambda: None) -> tuple[Run, float]:
    """Start a run and cancel it in this stage, while the obstacle is in place. Return the run and the seconds until it ended."""
    before_cancel = read_state()
    run = start_queued_run("full")
    if stage != Stage.PLAN:
        wait_until(lambda: run.tasks.count() > 1, "there is a plan", every=0.001)
    with obstacle():
        wait_until(task_running(run, stage), f"{stage} runs", every=0.001)
        before()
        time.sleep(0.5 if obstacle is not nullcontext else 0)
        api.cancel_run(run.pk, "drill", "to see it end")
        began = time.monotonic()
        wait_for_end(run)
        took = time.monotonic() - began
    require(run.state == State.CANCELLED, f"cancelled in {stage}, the run is {run.state}: {run.cause}")
    require(run.cause == "Cancelled by drill: to see it end. Nothing was published.", f"recorded is {run.cause!r}")
    require(took < LIMIT_S, f"cancelled in {stage}, it took {took:.1f} s to end")
    require(read_state() == before_cancel, "something was published")
    wait_until(lambda: not run.tasks.filter(state=State.RUNNING).exists(), "no task runs", LIMIT_S)
    return run, took


def resume_and_count_reads(run: Run) -> str:
    """Resume the run and describe what it read again, according to the sources' query log."""
    landed = run.tasks.filter(stage=Stage.EXTRACT, state=State.SUCCEEDED, subject="fact_sales").count()
    batches = dict(Batch.objects.filter(run=run).values_list("pk", "checksum"))
    with general_log() as log:
        api.resume_run(run.pk, queue=True)
        wait_for_success(run)
        reads = log("order_items")
        everything = sum(log(table) for table in ("orders", "order_items", "payments", "customers", "products"))
    slices = run.tasks.filter(stage=Stage.EXTRACT, subject="fact_sales").count()
    require(reads == slices - landed, f"resumed with {landed} of {slices} slices landed, order_items was read {reads} times")
    existing = Batch.objects.filter(pk__in=batches).count()
    require(existing == len(batches), f"{len(batches) - existing} landed batches were made again")
    left = "" if landed < slices else f", {everything} queries of any table"
    return f"resumed with {landed} of {slices} slices landed: {reads} reads of order_items{left}"


@contextmanager
def general_log() -> Iterator[Callable[[str], int]]:
    """The source server's own log: how many queries read rows of a table, since it began; without those that find the bounds of slices."""
    with closing(connect_source()) as connection, connection.cursor() as cursor:
        for statement in ("SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = ON"):
            cursor.execute(statement)

        def reads(table: str) -> int:
            query = "SELECT COUNT(*) FROM mysql.general_log WHERE command_type = 'Query' AND argument REGEXP %s AND argument NOT LIKE %s"
            cursor.execute(query, (f"^SELECT CONCAT_WS.* FROM {table}( |$)", "%1 = 0"))
            return int(cursor.fetchone()[0])

        try:
            yield reads
        finally:
            cursor.execute("SET GLOBAL general_log = OFF")


def connect_source() -> MySQLdb.Connection:
    return MySQLdb.connect(**connections["orders_db"].get_connection_params(), autocommit=True)


@contextmanager
def source_locked(table: str) -> Iterator[None]:
    with closing(connect_source()) as connection:
        connection.cursor().execute(f"LOCK TABLES {table} WRITE")
        yield


@contextmanager
def warehouse_locked() -> Iterator[None]:
    """Lock tables so that writers wait and readers do not; `read_state` is a reader."""
    with psycopg.connect(os.environ["DWH_URL"]) as connection:
        connection.execute("LOCK TABLE dim_region, fact_sales IN SHARE MODE")
        yield
        connection.rollback()


def cancel_stalled_copy() -> float:
    """Cancel a load whose proxy to the warehouse goes silent in the middle of a COPY. Return the seconds until it ended."""
    with Proxy(os.environ["DWH_URL"]) as proxy:
        (worker,) = workers(1, DWH_URL=proxy.url)

        def silence() -> None:
            proxy.set_mode(SWALLOW, after=COPIED_BYTES)
            wait_until(lambda: proxy.after < 0, "the network goes silent", 10)
            require(query("dwh", "SELECT count(*) FROM pg_stat_progress_copy") == [(1,)], "no COPY is under way")

        _, took = cancel_during(Stage.LOAD, before=silence)
        proxy.set_mode(PASS)
        worker.kill()
    return took
