"""Claim, execute, finish: the only writer of the ledger.

A task is done by whoever claims its row. What is written here about a task is written only while its claim is still the one it was
executed under; when it ends, `planning.ready` looks at the rows and says what may start now.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from logging import ERROR, INFO
from typing import Any

import pyarrow as pa
import structlog
from django.conf import settings
from django.db import connections, transaction
from django.db.models.functions import Now

from apps.etl.batch import encode
from apps.orchestration.models import ACTIVE, Batch, CheckResult, Reject, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.planning import Plan, ready, seconds_to_wait, urgency
from apps.orchestration.results import document
from apps.orchestration.signals import run_ended
from apps.orchestration.worker.heartbeat import LISTEN, Heartbeat
from apps.orchestration.worker.pool import LOOK, Crew
from apps.orchestration.worker.stages import STAGES, Landed
from apps.warehouse.loads import Load
from techmarket.commands import signals_heeded
from techmarket.diagnosis import close, diagnosed
from techmarket.errors import Cancelled, ChecksRefused, ClaimLost, EtlError, Terminal, Unreachable
from techmarket.messages import gettext_noop as _

log = structlog.get_logger()
# Rows of one INSERT of rejects: a table that is dirty throughout has as many as it has rows.
REJECTS = 1_000
CANCELLED = _("Cancelled {how}. Nothing was published.")
UNEXPECTED = _("Unexpected {said}. Nothing was published.")
BACKOFF = 4  # each wait is so many times the one before

Listener = Callable[[Task, int, bool], None]  # the task; rows more; whether it has ended


def silent(task: Task, rows: int, ended: bool) -> None:
    """A listener that nobody asked for."""


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def carry_out(run: Run, listener: Listener = silent, processes: int = 1) -> None:
    """Execute the whole run here, task after task; it ends in a final state. Raises what stopped it, after recording it.

    With more than one process, others beside this one share its extracts and transforms.
    """
    stop_query_log()
    with Crew(run, processes) as crew:
        try:
            with signals_heeded(), diagnosed("default"), Heartbeat(run.pk, worker_name()) as heart:
                work_through(run, heart, crew, listener)
                finish(run)
        except KeyboardInterrupt as error:
            end(run, by_signal(error))
            raise
        except Exception as error:
            end(run, error)
            raise


def work_through(run: Run, heart: Heartbeat, crew: Crew, listener: Listener) -> None:
    told: set[int] = set()
    while (tasks := ready(run)) or goes_on(run):
        if not tasks:
            crew.take_back()
            rest(LOOK, heart)
            continue
        rest(seconds_to_wait(tasks), heart)
        first = min(tasks, key=lambda task: (task.not_before is not None, task.not_before, *urgency(task), task.pk))
        if not execute(first, heart, listener):
            rest(LOOK if crew.members else LISTEN, heart)
        elif first.stage == Stage.PLAN:
            crew.assemble()
        if crew.members:
            tell_of_others(run, listener, told)


def goes_on(run: Run) -> bool:
    """Whether somebody has work in hand. One look at both: between two, a member may end a task and begin the next."""
    return run.tasks.filter(run__state__in=ACTIVE).exclude(state=State.SUCCEEDED).exists()


def tell_of_others(run: Run, listener: Listener, told: set[int]) -> None:
    """Of tasks that others than this process have ended since `told`."""
    for task in run.tasks.filter(state=State.SUCCEEDED).exclude(worker=worker_name()).exclude(pk__in=told):
        told.add(task.pk)
        listener(task, sum(task.batches.values_list("rows", flat=True)), True)


def rest(seconds: float, heart: Heartbeat) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        heart.check()
        time.sleep(min(0.5, max(0.0, until - time.monotonic())))


def execute(task: Task, heart: Heartbeat, listener: Listener = silent) -> bool:
    """One attempt at one task. False where somebody else has it, or its run is over.

    A transient failure queues it again, for later, while it has attempts left. Raises what ended it otherwise, with its run.
    """
    if not task.claim_for(worker_name()):
        return False
    task.run.move(State.QUEUED, to=State.RUNNING, started_at=Now(), heartbeat_at=Now())
    with structlog.contextvars.bound_contextvars(**labels(task)):
        attempt(task, heart, listener)
    return True


def labels(task: Task) -> dict[str, Any]:
    """What a line of the log says of the task that it is about."""
    return {"run": task.run_id, "task": task.pk, "stage": task.stage, "table": task.subject, "slice": task.slice}


def attempt(task: Task, heart: Heartbeat, listener: Listener) -> None:
    heart.claim = task.claim

    def report(table: str, rows: int) -> None:
        heart.check()
        listener(task, rows, False)

    try:
        with signals_heeded(), diagnosed("default"):
            landed = STAGES[task.stage](task, report)
            if task.stage != Stage.LOAD:  # a load has asked before its commit; now it is too late to end it
                heart.check()
            land(task, landed)
    except KeyboardInterrupt as error:
        close("default")
        task.move(State.RUNNING, to=State.CANCELLED, finished_at=Now(), **told(by_signal(error)))
        raise
    except Exception as error:
        heart.claim = None
        connections["default"].close_if_unusable_or_obsolete()
        failed(task, cause_of(error, heart))
    else:
        log_rows(task, landed)
        listener(task, 0, True)
    finally:
        heart.claim = None


def log_rows(task: Task, landed: Landed) -> None:
    """A line for the task, and at its end one for each table of the warehouse: never one for a row."""
    for table, written in landed.written.items():
        log.info("table written", table=table, **written.by_name())
    counts = landed.counts.get(task.subject)
    rows = vars(counts) if counts else {"rows": sum(batch.num_rows for batch in landed.batches.values())}
    log.info("task succeeded", seconds=task.seconds, attempt=task.attempt, worker=task.worker, **rows)


def cause_of(error: Exception, heart: Heartbeat) -> Exception:
    """A claim is refused to a cancelled run too, before the heartbeat has heard of the cancel."""
    return heart.cause or (heart.listen() if isinstance(error, ClaimLost) else None) or error


def failed(task: Task, error: Exception) -> None:
    """Record it on the task, and on the run unless the task is to be tried again; then raise it."""
    mine: dict[str, Any] = {"where": task.claimed()}
    if may_pass(error, task) and task.attempt < settings.ETL_ATTEMPTS:
        task.move(State.RUNNING, to=State.QUEUED, not_before=Now() + delay(task), published_at=None, **mine, **told(error))
        log.warning("task is tried again later", attempt=task.attempt, **told(error))
        return
    ended = task.move(State.RUNNING, to=state_after(error), finished_at=Now(), **mine, **told(error))
    if ended and isinstance(error, ChecksRefused):
        task.checks.all().delete()
        CheckResult.objects.bulk_create(check_rows(task, Landed(checks=error.results)))
    if ended:
        log_end("task", task, error, attempt=task.attempt)
    end(task.run, error)
    raise error


def log_end(what: str, row: Run | Task, error: Exception, **labels: Any) -> None:
    """That somebody cancelled it is no error."""
    log.log(ERROR if row.state == State.FAILED else INFO, f"{what} {row.state}", **labels, **told(error))


def may_pass(error: Exception, task: Task) -> bool:
    """A server that answered while the run was planned, and does not answer now, is being started again."""
    started = task.stage != Stage.PLAN and isinstance(error, Unreachable)
    return started or (isinstance(error, EtlError) and error.transient)


def delay(task: Task) -> timedelta:
    """Before another attempt: for a run that a person waits for, seconds that grow; for a scheduled one, minutes."""
    if task.run.trigger == Trigger.SCHEDULE:
        return timedelta(seconds=settings.ETL_SCHEDULED_RETRY_SECONDS)
    return timedelta(seconds=settings.ETL_RETRY_SECONDS * BACKOFF ** (task.attempt - 1))


def land(task: Task, landed: Landed) -> None:
    """What the task leaves, and that it succeeded: all at once, in the place of what an earlier attempt left."""
    run = task.run
    with transaction.atomic():
        if not task.move(State.RUNNING, to=State.SUCCEEDED, where=task.claimed(), finished_at=Now()):
            raise ClaimLost
        for model in (Batch, RowCount, Reject, CheckResult):
            model._default_manager.filter(task=task).delete()
        for name, table in landed.batches.items():
            store(Batch(run=run, task=task, name=name, rows=table.num_rows), table)
        RowCount.objects.bulk_create(count_rows(task, landed))
        Reject.objects.bulk_create([Reject(run=run, task=task, **vars(row)) for row in landed.rejects], batch_size=REJECTS)
        CheckResult.objects.bulk_create(check_rows(task, landed))
        if landed.plan:
            settle(run, landed.plan)
        if landed.net_by_month:
            Run.objects.filter(pk=run.pk).update(result={"net_by_month": landed.net_by_month})


def store(batch: Batch, table: pa.Table) -> None:
    """On PostgreSQL by COPY: in an INSERT the body is written out as hexadecimal, here and there: 25 ms for a slice's 1 MB, else 8."""
    batch.body, batch.checksum = encode(table)
    if connections["default"].vendor != "postgresql":
        return batch.save(force_insert=True)
    query = "COPY orchestration_batch (run_id, task_id, name, rows, checksum, body) FROM STDIN (FORMAT binary)"
    with connections["default"].cursor() as cursor, cursor.copy(query) as stream:
        stream.set_types(["int8", "int8", "varchar", "int8", "int8", "bytea"])
        stream.write_row([batch.run_id, batch.task_id, batch.name, batch.rows, batch.checksum, batch.body])
    return None


def settle(run: Run, plan: Plan) -> None:
    run.mode, run.window_start, run.high_water_mark = plan.mode, plan.window_start, plan.high_water_mark
    run.save(update_fields=["mode", "window_start", "high_water_mark"])
    Task.objects.bulk_create(plan.tasks)


def count_rows(task: Task, landed: Landed) -> list[RowCount]:
    read = [RowCount(run=task.run, task=task, table=table, **vars(counts)) for table, counts in landed.counts.items()]
    written = [RowCount(run=task.run, task=task, table=table, **counts.by_name()) for table, counts in landed.written.items()]
    return read + written


def check_rows(task: Task, landed: Landed) -> list[CheckResult]:
    return [CheckResult(run=task.run, task=task, **vars(result)) for result in landed.checks]


def finish(run: Run) -> None:
    """The run has succeeded, if all its tasks have. A dry run gives back all but its own row."""
    run.refresh_from_db()
    if run.state != State.RUNNING or run.tasks.exclude(state=State.SUCCEEDED).exists():
        return
    with transaction.atomic():
        if not run.move(State.RUNNING, to=State.SUCCEEDED, finished_at=Now()):
            return
        if run.dry_run:
            run.result = document(run) | {"net_by_month": (run.result or {}).get("net_by_month", {})}
            run.save(update_fields=["result"])
            run.tasks.all().delete()
        run_ended.send(Run, run=run)
    log.info("run succeeded", run=run.pk, mode=run.mode, dry_run=run.dry_run, seconds=run.seconds)
    forget()


def end(run: Run, error: Exception) -> None:
    """The run has come to nothing, for this cause; unless it has ended already, was published, or somebody else goes on with it.

    A dry run leaves its row alone.
    """
    if isinstance(error, ClaimLost):
        return None
    close("default")
    if found_published(run):
        return finish(run)
    if run.worker:  # stopped between claiming a task and beginning it
        for task in run.tasks.filter(state=State.RUNNING, worker=run.worker):
            task.move(State.RUNNING, to=state_after(error), finished_at=Now(), **told(error))
    if run.move(*ACTIVE, to=state_after(error), finished_at=Now(), **told(error)):
        log_end("run", run, error, run=run.pk, mode=run.mode)
        run_ended.send(Run, run=run)
    if run.dry_run:
        run.tasks.all().delete()
    return None


def found_published(run: Run) -> bool:
    """Whether the warehouse had committed already when the run was stopped; then it has succeeded, whatever stopped it."""
    load = run.tasks.filter(stage=Stage.LOAD, attempt__gt=0)
    if run.dry_run or not load.exists():
        return False
    close("dwh")
    with suppress(EtlError), diagnosed("dwh"):
        if Load.objects.filter(run_uuid=run.uuid).exists():
            load.exclude(state=State.SUCCEEDED).update(state=State.SUCCEEDED, finished_at=Now(), cause="", blame="")
            return True
    return False


def by_signal(error: KeyboardInterrupt) -> Cancelled:
    return Cancelled(CANCELLED.format(how=str(error) or "at the terminal"))


def state_after(error: Exception) -> State:
    return State.CANCELLED if isinstance(error, Cancelled) else State.FAILED


def told(error: Exception) -> dict[str, Any]:
    """The cause and the blame, as run and task record them."""
    if not isinstance(error, EtlError):
        said = f"{type(error).__name__}: {error}".rstrip(":. ")
        error = Terminal(UNEXPECTED.format(said=said))
    return {"cause": str(error), "blame": error.blame}


def forget() -> None:
    """Batches serve to resume, which after some days nobody does; after a year nobody reads a run's details. Runs stay."""
    Batch.objects.filter(run__finished_at__lt=Now() - timedelta(days=settings.ETL_KEEP_BATCHES_DAYS)).delete()
    Task.objects.filter(run__finished_at__lt=Now() - timedelta(days=settings.ETL_KEEP_DETAILS_DAYS)).delete()


def stop_query_log() -> None:
    """With DEBUG=true Django keeps the text of every query, batches of megabytes among them."""
    for alias in settings.DATABASES:
        connections[alias].make_debug_cursor = connections[alias].make_cursor  # type: ignore[method-assign, assignment]
