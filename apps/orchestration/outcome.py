"""How a run ends: succeeded if all its tasks have or its load was published; otherwise failed, cancelled or lost."""

from contextlib import suppress
from datetime import timedelta
from logging import ERROR, INFO
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from apps.orchestration.models import Batch, Run, Stage, State, Task, failure_fields
from apps.orchestration.results import document
from apps.orchestration.signals import run_ended
from apps.warehouse.loads import Load
from techmarket.diagnosis import close, diagnosed
from techmarket.errors import Cancelled, ClaimLost, EtlError
from techmarket.messages import message, store

log = structlog.get_logger()


def finish_run(run: Run) -> None:
    """Let the run succeed if all its tasks have. Of a dry run only its own row is kept."""
    run.refresh_from_db()
    if run.state != State.RUNNING or run.has_unfinished_tasks:
        return
    with transaction.atomic():
        if not run.succeed():
            return
        if run.dry_run:
            run.result = store(document(run))
            run.save(update_fields=["result"])
            run.tasks.all().delete()
        else:
            from apps.orchestration.rejects import settle  # needs numpy and Arrow, with which the web process does not start

            settle(run)
        run_ended.send(Run, run=run)
    log.info("run succeeded", run=run.pk, mode=run.mode, dry_run=run.dry_run, seconds=run.seconds)
    delete_old_details()


def end_run(run: Run, error: BaseException) -> None:
    """Let the run fail, or be cancelled; unless it has ended already, was published, or another process continues it.

    Of a dry run only the row remains.
    """
    if isinstance(error, ClaimLost):
        return None
    close("default")
    if was_published(run):
        return finish_run(run)
    if run.is_local:  # stopped between claiming a task and executing it
        for task in run.tasks.filter(state=State.RUNNING, worker=run.worker):
            task.end(error)
    if run.end(error):
        log_end("run", run, error, run=run.pk, mode=run.mode)
        run_ended.send(Run, run=run)
    if run.dry_run:
        run.tasks.all().delete()
    return None


def was_published(run: Run) -> bool:
    """Return True if the warehouse had committed already when the run was stopped: then it has succeeded."""
    load = run.tasks.filter(stage=Stage.LOAD, attempt__gt=0).first()
    if run.dry_run or load is None:
        return False
    close("dwh")
    with suppress(EtlError), diagnosed("dwh"):
        if Load.objects.filter(run_uuid=run.uuid).exists():
            load.confirm_published()
            return True
    return False


def log_end(what: str, row: Run | Task, error: BaseException, **labels: Any) -> None:
    """Log the end at ERROR for a failure, at INFO for a cancellation."""
    log.log(ERROR if row.state == State.FAILED else INFO, f"{what} {row.state}", **labels, **failure_fields(error))


def cancelled_by_signal(error: KeyboardInterrupt) -> Cancelled:
    return Cancelled(message("run.interrupted", how=error.args[0] if error.args else message("signal.terminal")))


def cancelled_by_person(run: Run) -> Cancelled:
    if run.reason:
        return Cancelled(message("run.cancelled_because", person=run.cancelled_by, reason=run.reason.rstrip(".")))
    return Cancelled(message("run.cancelled_by", person=run.cancelled_by))


def delete_old_details() -> None:
    """Delete batches and details of old runs; the runs stay. Batches are needed to resume a run, details for a year of history."""
    Batch.objects.filter(run__finished_at__lt=Now() - timedelta(days=settings.ETL_KEEP_BATCHES_DAYS)).delete()
    Task.objects.filter(run__finished_at__lt=Now() - timedelta(days=settings.ETL_KEEP_DETAILS_DAYS)).delete()
