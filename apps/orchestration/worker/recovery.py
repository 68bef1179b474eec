"""Recovery of dead workers' tasks and runs. Beat calls `reap` every few seconds, and every new run calls it first."""

from contextlib import suppress
from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from apps.etl.session import end_session
from apps.orchestration.models import ACTIVE, ANY, Run, Stage, State, Task
from apps.orchestration.outcome import finish_run, has_begun_load, settle_ended_runs, settle_publication
from apps.orchestration.prepared import drop_leftovers
from apps.orchestration.publication import describe_doubt, is_in_doubt
from apps.orchestration.ready import BACKOFF
from apps.orchestration.signals import run_ended
from apps.orchestration.worker.delivery import advance_run
from apps.orchestration.worker.presence import is_gone
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError
from techmarket.messages import Message, message

log = structlog.get_logger()


def reap() -> None:
    """Requeue or fail stalled tasks, also of runs that have ended meanwhile; fail or advance every active run; settle the ended ones."""
    mend_future_instants()
    for task in Task.objects.filter(state=State.RUNNING).select_related("run"):
        if stalled := find_stall(task):
            fail_stalled_task(task, *stalled)
    for run in Run.objects.filter(state__in=ACTIVE):
        if not run.is_local:
            advance_run(run)
        elif stalled := find_stall(run):
            fail_stalled_run(run, *stalled)
    settle_ended_runs()
    with suppress(EtlError):  # the warehouse does not answer: a later reap drops them
        drop_leftovers()


def mend_future_instants() -> None:
    """Count from now what a wrong clock has dated ahead: otherwise nothing would be late until that time comes."""
    ahead = Now() + timedelta(seconds=settings.ETL_LOST_AFTER_SECONDS)
    active = Run.objects.filter(state__in=ACTIVE)
    queued = Task.objects.filter(run__in=active, state=State.QUEUED)
    retry_s = max(settings.ETL_SCHEDULED_RETRY_SECONDS, settings.ETL_RETRY_SECONDS * BACKOFF**settings.ETL_ATTEMPTS)
    mended = (
        active.filter(heartbeat_at__gt=ahead).update(heartbeat_at=Now())
        + active.filter(started_at__gt=ahead).update(started_at=Now())
        + Task.objects.filter(state=State.RUNNING, heartbeat_at__gt=ahead).update(heartbeat_at=Now())
        + queued.filter(message_sent_at__gt=ahead).update(message_sent_at=None)
        + queued.filter(waits_for=0, not_before__gt=ahead + timedelta(seconds=retry_s)).update(not_before=Now())
    )
    if mended:
        log.warning("instants in the future were mended: the control database's clock has been set back", rows=mended)


def is_stalled() -> Q:
    """A condition: no heartbeat for ETL_LOST_AFTER_SECONDS, by the control database's clock, as heartbeats are written."""
    return Q(heartbeat_at__lt=Now() - timedelta(seconds=settings.ETL_LOST_AFTER_SECONDS))


def find_stall(row: Run | Task) -> tuple[Q, Message] | None:
    """Return the condition under which the row's process is gone, and the cause; None while it may be alive."""
    if is_gone(row.worker):  # at once; of a process on another machine only the heartbeats tell
        return Q(worker=row.worker), message("task.process_gone", worker=row.worker)
    if type(row)._default_manager.filter(is_stalled(), pk=row.pk).exists():
        return is_stalled(), heartbeat_stopped(row)
    return None


def fail_stalled_task(task: Task, stalled: Q, cause: Message) -> None:
    """Let the task succeed if the warehouse has its load; else requeue it, or where it has no attempt or no worker left, lose it."""
    may_retry = has_another_attempt(task)
    if task.stage == Stage.LOAD and task.run.dry_run:
        with suppress(EtlError), diagnosed("dwh"):
            end_session(task.session)
    elif task.stage == Stage.LOAD:
        published = settle_publication(task.run)
        if published or (published is None and may_retry):
            return  # where the warehouse does not answer, a later reap settles it
        if published is None and is_in_doubt(task.run):
            cause = describe_doubt(cause)
    log.warning("task stalled", worker=task.worker, attempt=task.attempt, **task.labels)
    if may_retry:
        task.requeue(cause, where=stalled & task.holds_claim)
        # A worker dies with the messages that it has taken and not started; the broker would hold them back for hours.
        task.run.tasks.filter(state=State.QUEUED, message_sent_at__isnull=False).update(message_sent_at=None)
    elif task.lose(cause, where=stalled & task.holds_claim):
        lose_run(task.run, cause)


def has_another_attempt(task: Task) -> bool:
    """Return True if somebody may take the task again: Celery's workers, or a local executor that is alive though its worker died."""
    if not task.run.is_active or task.attempt >= settings.ETL_ATTEMPTS:
        return False
    return not task.run.is_local or (task.worker != task.run.worker and find_stall(task.run) is None)


def fail_stalled_run(run: Run, stalled: Q, cause: Message) -> None:
    """Lose a run whose local executor is gone, unless it was published or had only to be finished."""
    finish_run(run)
    if not run.is_active:
        return
    published = settle_publication(run) if has_begun_load(run) else False
    if published:
        return
    if published is None and is_in_doubt(run):
        cause = describe_doubt(cause)
    lose_run(run, cause, stalled)


def heartbeat_stopped(row: Run | Task) -> Message:
    return message("task.heartbeat_stopped", worker=row.worker, instant=f"{row.heartbeat_at:%Y-%m-%d %H:%M:%S}")


def lose_run(run: Run, cause: Message, where: Q = ANY) -> None:
    """Lose the run and its tasks: no process executes them any more."""
    if run.lose(cause, where):
        for task in run.tasks.filter(state=State.RUNNING):
            task.lose(cause)
        log.error("run lost", run=run.pk, mode=run.mode, cause=cause)
        run_ended.send(Run, run=run)
