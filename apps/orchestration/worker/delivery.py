"""Celery delivers, the ledger decides: a message names a task that might be executed, and nothing else.

A message lost, doubled or late changes nothing: the task is claimed in the ledger, and unclaimed tasks are sent again.
"""

from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from apps.orchestration.models import Mode, Run, State, Task, Trigger
from apps.orchestration.outcome import cancelled_by_person, end_run, finish_run
from apps.orchestration.ready import ready_tasks
from apps.orchestration.worker.heartbeat import is_overdue, timed_out
from techmarket.celery import app

log = structlog.get_logger()
RECENT_DAYS = 7  # compared after each scheduled run
# A message whose task is unclaimed for so long counts as lost and is sent again; if it was not lost, the claim decides.
RESEND_AFTER = timedelta(seconds=2 * settings.ETL_LOST_AFTER_SECONDS)
MESSAGES_AHEAD = 100  # of a run, sent and not claimed: after each task, and each pass of the reaper, they are made up to so many again


def advance_run(run: Run) -> None:
    """Advance the run after a task: finish it, end it if it was cancelled or is overdue, or send the tasks that may start now."""
    finish_run(run)
    if not run.is_active:
        return None
    if not run.tasks.filter(state=State.RUNNING).exists():
        if run.cancelled_by:
            return end_run(run, cancelled_by_person(run))
        if is_overdue(run):
            return end_run(run, timed_out(run))
    return send_ready_tasks(run)


def send_ready_tasks(run: Run) -> None:
    """Send messages for the most urgent tasks that may start and have none on their way, once the ledger's transaction is committed.

    MESSAGES_AHEAD bounds what the broker holds, and what one call costs, whatever the number of tasks.
    """
    sent = run.tasks.filter(state=State.QUEUED, message_sent_at__isnull=False)
    sent.filter(message_sent_at__lt=Now() - RESEND_AFTER).update(message_sent_at=None)
    for when in (Q(not_before=None), Q(not_before__lte=Now())):
        unsent = ready_tasks(run).filter(when, message_sent_at=None)
        for number, stage in list(unsent.values_list("pk", "stage")[: max(0, MESSAGES_AHEAD - sent.count())]):
            if Task.objects.filter(pk=number, state=State.QUEUED, message_sent_at=None).update(message_sent_at=Now()):
                transaction.on_commit(partial(send_message, number, stage))


def reconcile_after(run: Run, **kwargs: object) -> None:
    """After a scheduled run compare the recent days with the sources, after a full one everything."""
    if run.trigger == Trigger.SCHEDULE and run.state == State.SUCCEEDED:
        transaction.on_commit(partial(send_reconcile, None if run.mode == Mode.FULL else RECENT_DAYS))


def send_reconcile(days: int | None) -> None:
    try:
        app.send_task("techmarket.reconcile", args=[days])
    except (OperationalError, OSError) as error:
        log.warning("broker unavailable, the comparison after the run is left out", error=str(error))


def send_message(task_id: int, stage: str) -> None:
    """Send the message; where the broker is away, the reaper sends it once the broker is back."""
    try:
        app.send_task(f"techmarket.{stage}", args=[task_id])
    except (OperationalError, OSError) as error:
        Task.objects.filter(pk=task_id, state=State.QUEUED).update(message_sent_at=None)
        log.warning("broker unavailable, the reaper will send the task again", task=task_id, stage=stage, error=str(error))
