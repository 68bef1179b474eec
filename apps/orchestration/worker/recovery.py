"""Recovery of dead workers' tasks and runs. Beat calls `reap` every few seconds, and every new run calls it first."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from apps.etl.session import end_session
from apps.orchestration.models import ACTIVE, ANY, RowCount, Run, Stage, State, Task
from apps.orchestration.outcome import finish_run
from apps.orchestration.signals import run_ended
from apps.orchestration.worker.delivery import advance_run
from apps.warehouse.loads import Load
from techmarket.diagnosis import diagnosed
from techmarket.messages import Message, message

log = structlog.get_logger()


def reap() -> None:
    """Requeue or fail stalled tasks, also of runs that have ended meanwhile; then fail or advance every active run."""
    for task in Task.objects.filter(is_stalled(), state=State.RUNNING).select_related("run").iterator():
        fail_stalled_task(task)
    for run in Run.objects.filter(state__in=ACTIVE):
        if run.is_local:
            fail_stalled_run(run)
        else:
            advance_run(run)


def is_stalled() -> Q:
    """A condition: no heartbeat for ETL_LOST_AFTER_SECONDS, by the control database's clock, as heartbeats are written."""
    return Q(heartbeat_at__lt=Now() - timedelta(seconds=settings.ETL_LOST_AFTER_SECONDS))


def fail_stalled_task(task: Task) -> None:
    """Let the task succeed if the warehouse has its load; else requeue it, or where it has no attempt or no worker left, lose it."""
    if task.stage == Stage.LOAD:
        with diagnosed("dwh"):
            end_session(task.session)
            load = Load.objects.filter(run_uuid=task.run.uuid).first()
        if load:
            return finish_published_task(task, load)
    cause = heartbeat_stopped(task)
    log.warning("task stalled", worker=task.worker, attempt=task.attempt, **task.labels)
    if task.run.is_active and not task.run.is_local and task.attempt < settings.ETL_ATTEMPTS:
        task.requeue(cause, where=is_stalled() & task.holds_claim)
        # A worker dies with the messages that it has taken and not started; the broker would hold them back for hours.
        task.run.tasks.filter(state=State.QUEUED).update(message_sent_at=None)
    elif task.lose(cause, where=is_stalled() & task.holds_claim):
        lose_run(task.run, cause)
    return None


def finish_published_task(task: Task, load: Load) -> None:
    """Record the success of a load whose worker died between the commit and the ledger; the counts are those in etl_load."""
    if task.succeed():
        counts = [RowCount(run=task.run, task=task, table=table, **row) for table, row in load.counts.items()]
        RowCount.objects.bulk_create(counts, ignore_conflicts=True)
        finish_run(task.run)


def fail_stalled_run(run: Run) -> None:
    """Lose a run whose local executor died between two tasks."""
    lose_run(run, heartbeat_stopped(run), is_stalled())


def heartbeat_stopped(row: Run | Task) -> Message:
    return message("task.heartbeat_stopped", worker=row.worker, instant=f"{row.heartbeat_at:%Y-%m-%d %H:%M:%S}")


def lose_run(run: Run, cause: Message, where: Q = ANY) -> None:
    if run.lose(cause, where):
        log.error("run lost", run=run.pk, mode=run.mode, cause=cause)
        run_ended.send(Run, run=run)
