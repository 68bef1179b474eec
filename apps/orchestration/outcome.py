"""How a run ends: succeeded if all its tasks have or its load was published; otherwise failed, cancelled or lost."""

from datetime import timedelta
from logging import ERROR, INFO
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.audit.protection import delete_old_entries
from apps.orchestration.models import UNSUCCESSFUL, Batch, RowCount, Run, Stage, State, Task, TaskCount, failure_fields
from apps.orchestration.publication import doubt, find_load, is_in_doubt, is_unknown, settle_cause
from apps.orchestration.results import document
from apps.orchestration.signals import run_ended
from apps.warehouse.loads import Load
from techmarket.diagnosis import close, diagnosed
from techmarket.errors import Cancelled, ClaimLost, EtlError
from techmarket.messages import message, store

log = structlog.get_logger()
SETTLED_RUNS = 100  # older ones are settled when they are resumed


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
            run.delete_tasks()
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
        return
    close("default")
    published = settle_publication(run) if has_begun_load(run) else False
    if published:
        return
    if published is None and is_in_doubt(run):
        error = doubt(error)
    if run.is_local:  # stopped between claiming a task and executing it
        for task in run.tasks.filter(state=State.RUNNING, worker=run.worker):
            task.end(error)
    if run.end(error):
        log_end("run", run, error, run=run.pk, mode=run.mode)
        run_ended.send(Run, run=run)
    if run.dry_run:
        run.delete_tasks()


def has_begun_load(run: Run) -> bool:
    return not run.dry_run and run.tasks.filter(stage=Stage.LOAD, attempt__gt=0).exists()


def settle_publication(run: Run) -> bool | None:
    """Ask the warehouse whether the run was published, and let the ledger follow. Return None where the warehouse does not answer.

    This is the one question, whoever asks it: the worker that failed, the reaper, a resume.
    """
    try:
        load = find_load(run)
    except EtlError as error:
        log.warning("the warehouse does not say whether the run was published", run=run.pk, cause=str(error))
        return None
    if load:
        record_published(run, load)
    else:
        settle_cause(run)
    return load is not None


def record_published(run: Run, load: Load) -> None:
    """Record the success of a published run, however it ended in the ledger, with the counts of etl_load."""
    with transaction.atomic():
        for task in run.tasks.filter(stage=Stage.LOAD):
            task.confirm_published()
            counts = [RowCount(run=run, task=task, table=table, **row) for table, row in load.counts.items()]
            RowCount.objects.bulk_create(counts, ignore_conflicts=True)
        if not run.confirm_published():
            run.refresh_from_db()
            return
        from apps.orchestration.rejects import settle  # see finish_run

        settle(run, is_latest=not Load.objects.filter(sequence__gt=load.sequence).exists())
        run_ended.send(Run, run=run)
    log.info("run had been published", run=run.pk, mode=run.mode)


def settle_ended_runs() -> None:
    """Ask the warehouse about the latest unsuccessful runs, in one query: an earlier answer was lost, or nobody asked."""
    runs = list(Run.objects.filter(state__in=UNSUCCESSFUL, dry_run=False)[:SETTLED_RUNS])
    if not runs:
        return
    try:
        with diagnosed("dwh"):
            published = set(Load.objects.filter(run_uuid__in=[run.uuid for run in runs]).values_list("run_uuid", flat=True))
    except EtlError:
        return
    for run in runs:
        if run.uuid in published or is_unknown(run.cause):
            settle_publication(run)


def end_attempt(task: Task, error: BaseException) -> bool:
    """Record that the attempt failed or was cancelled. Return False where its load was published, or the claim is another's."""
    found = check_publication(task, error)
    return found is not None and task.end(found, where=task.holds_claim)


def check_publication(task: Task, error: BaseException) -> BaseException | None:
    """Return what ended the attempt, doubted where it may have committed; None where the warehouse has its load, and it has succeeded."""
    if task.stage != Stage.LOAD or isinstance(error, ClaimLost) or not is_in_doubt(task.run):
        return error
    published = settle_publication(task.run)
    if published:
        return None
    return error if published is not None else doubt(error)


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
    """Delete batches and details of old runs, and old audit entries; the runs stay.

    Batches are needed to resume a run, details for a year of history.
    """
    Batch.objects.filter(run__finished_at__lt=Now() - timedelta(days=settings.ETL_KEEP_BATCHES_DAYS)).delete()
    old = Q(run__finished_at__lt=Now() - timedelta(days=settings.ETL_KEEP_DETAILS_DAYS))
    Task.objects.filter(old).delete()
    TaskCount.objects.filter(old).delete()
    delete_old_entries()
