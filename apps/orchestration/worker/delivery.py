"""Celery delivers, the ledger decides: a message says which task might be done, and nothing else.

A message lost, doubled or late changes nothing: the task is claimed in the ledger, and what nobody claimed is sent again.
"""

from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from apps.orchestration.models import Run, State, Task
from apps.orchestration.planning import ready
from apps.orchestration.worker.heartbeat import cancelled, overdue, timed_out
from apps.orchestration.worker.loop import end, finish
from techmarket.celery import app

log = structlog.get_logger()
# A message that was not claimed for so long is taken for lost and sent again; if it was not, the claim tells.
LOST_AFTER = timedelta(seconds=2 * settings.ETL_LOST_AFTER_SECONDS)


def advance(run: Run) -> None:
    """After a task has ended: finish the run, or end it if its time has come, or send what may start now."""
    finish(run)
    if not run.is_active:
        return None
    if not run.tasks.filter(state=State.RUNNING).exists():
        if run.cancelled_by:
            return end(run, cancelled(run))
        if overdue(run):
            return end(run, timed_out(run))
    return deliver(run)


def deliver(run: Run) -> None:
    """Send a message for each task that may start and has none on its way, once the ledger's transaction is committed."""
    due = Q(published_at=None) | Q(published_at__lt=Now() - LOST_AFTER)
    rested = Q(not_before=None) | Q(not_before__lte=Now())
    for task in ready(run):
        if Task.objects.filter(due & rested, pk=task.pk, state=State.QUEUED).update(published_at=Now()):
            transaction.on_commit(partial(send, task.pk, task.stage))


def send(task_id: int, stage: str) -> None:
    """The broker may be away: then the reaper sends it, once it is back."""
    try:
        app.send_task(f"techmarket.{stage}", args=[task_id])
    except (OperationalError, OSError) as error:
        Task.objects.filter(pk=task_id, state=State.QUEUED).update(published_at=None)
        log.warning("the broker does not take messages; the reaper will try again", task=task_id, stage=stage, error=str(error))
