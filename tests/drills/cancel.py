"""Cancel at each stage, and while the load waits for a lock or is stalled: under ten seconds. Resume reads nothing of the sources again."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

import MySQLdb
import psycopg
from django.db import connections

from apps.orchestration import api
from apps.orchestration.models import Batch, Run, Stage, State
from tests.drills.ground import (
    change_shop,
    ended,
    nothing_left,
    promise,
    right_star,
    rows,
    run_here,
    running,
    start,
    start_beat,
    state,
    succeeded,
    until,
    workers,
)
from tests.drills.proxy import PASS, SWALLOW, Proxy

Obstacle = Callable[[], AbstractContextManager[object]]
LIMIT = 10.0
COPIED = 200_000  # bytes of a load after which the network goes silent: in the middle of the fact's COPY


def drill(times: int) -> Iterator[str]:
    start_beat()
    run_here("full")
    cases: list[tuple[str, str, Obstacle]] = [
        ("plan, waiting for a table", Stage.PLAN, lambda: source_locked("orders")),
        ("extract, waiting for a table", Stage.EXTRACT, lambda: source_locked("order_items")),
        ("extract", Stage.EXTRACT, nullcontext),
        ("transform", Stage.TRANSFORM, nullcontext),
        ("load", Stage.LOAD, nullcontext),
        ("load, waiting for a lock", Stage.LOAD, star_locked),
    ]
    (worker,) = workers(1)
    for number, (name, stage, obstacle) in enumerate(cases):
        change_shop(seed=3_000 + number)
        run, took = cancelled_in(stage, obstacle)
        yield f"in {name}: ended in {took:.1f} s; {resumed(run)}"
    worker.kill()
    yield f"in load, its COPY stalled by the network: ended in {stalled():.1f} s"
    nothing_left()
    right_star()


def cancelled_in(stage: str, obstacle: Obstacle = nullcontext, before: Callable[[], None] = lambda: None) -> tuple[Run, float]:
    """A run that is cancelled in this stage, where something is in its way; seconds till it has ended."""
    known = state()
    run = start("full")
    if stage != Stage.PLAN:
        until(lambda: run.tasks.count() > 1, "there is a plan", every=0.001)
    with obstacle():
        until(running(run, stage), f"{stage} runs", every=0.001)
        before()
        time.sleep(0.5 if obstacle is not nullcontext else 0)
        api.cancel_run(run.pk, "drill", "to see it end")
        began = time.monotonic()
        ended(run)
        took = time.monotonic() - began
    promise(run.state == State.CANCELLED, f"cancelled in {stage}, the run is {run.state}: {run.cause}")
    promise(run.cause == "Cancelled by drill: to see it end. Nothing was published.", f"recorded is {run.cause!r}")
    promise(took < LIMIT, f"cancelled in {stage}, it took {took:.1f} s to end")
    promise(state() == known, "something was published")
    until(lambda: not run.tasks.filter(state=State.RUNNING).exists(), "no task runs", LIMIT)
    return run, took


def resumed(run: Run) -> str:
    """What the sources were asked again, by their own log of queries."""
    landed = run.tasks.filter(stage=Stage.EXTRACT, state=State.SUCCEEDED, subject="fact_sales").count()
    batches = dict(Batch.objects.filter(run=run).values_list("pk", "checksum"))
    with general_log() as log:
        api.resume_run(run.pk, queue=True)
        succeeded(run)
        reads = log("order_items")
        everything = sum(log(table) for table in ("orders", "order_items", "payments", "customers", "products"))
    slices = run.tasks.filter(stage=Stage.EXTRACT, subject="fact_sales").count()
    promise(reads == slices - landed, f"resumed with {landed} of {slices} slices landed, the sources were asked for lines {reads} times")
    kept = Batch.objects.filter(pk__in=batches).count()
    promise(kept == len(batches), f"{len(batches) - kept} landed batches were made again")
    left = "" if landed < slices else f", {everything} queries of any table"
    return f"resumed with {landed} of {slices} slices landed: {reads} reads of order_items{left}"


@contextmanager
def general_log() -> Iterator[Callable[[str], int]]:
    """The source server's own log: how many queries read rows of a table, since it began; not those that look where a slice lies."""
    with closing(source()) as connection, connection.cursor() as cursor:
        for words in ("SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = ON"):
            cursor.execute(words)

        def reads(table: str) -> int:
            query = "SELECT COUNT(*) FROM mysql.general_log WHERE command_type = 'Query' AND argument REGEXP %s AND argument NOT LIKE %s"
            cursor.execute(query, (f"^SELECT CONCAT_WS.* FROM {table}( |$)", "%1 = 0"))
            return int(cursor.fetchone()[0])

        try:
            yield reads
        finally:
            cursor.execute("SET GLOBAL general_log = OFF")


def source() -> MySQLdb.Connection:
    return MySQLdb.connect(**connections["orders_db"].get_connection_params(), autocommit=True)


@contextmanager
def source_locked(table: str) -> Iterator[None]:
    with closing(source()) as connection:
        connection.cursor().execute(f"LOCK TABLES {table} WRITE")
        yield


@contextmanager
def star_locked() -> Iterator[None]:
    """Readers pass, writers wait; the drill's own look at the star, too, is a reader."""
    with psycopg.connect(os.environ["DWH_URL"]) as connection:
        connection.execute("LOCK TABLE dim_region, fact_sales IN SHARE MODE")
        yield
        connection.rollback()


def stalled() -> float:
    """The warehouse is behind a proxy that goes silent in the middle of a COPY."""
    with Proxy(os.environ["DWH_URL"]) as proxy:
        (worker,) = workers(1, DWH_URL=proxy.url)

        def silence() -> None:
            proxy.become(SWALLOW, after=COPIED)
            until(lambda: proxy.after < 0, "the network goes silent", 10)
            promise(rows("dwh", "SELECT count(*) FROM pg_stat_progress_copy") == [(1,)], "no COPY is under way")

        _, took = cancelled_in(Stage.LOAD, before=silence)
        proxy.become(PASS)
        worker.kill()
    return took
