"""What silent workers leave behind is put in order: by beat every few seconds, and before every new run."""

from collections.abc import Iterator

import structlog
from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from apps.etl.load.session import end_session
from apps.orchestration.models import ACTIVE, ANY, Blame, RowCount, Run, Stage, State, Task, is_silent
from apps.orchestration.signals import run_ended
from apps.orchestration.worker.delivery import advance
from apps.orchestration.worker.loop import finish, labels
from apps.warehouse.loads import Load
from techmarket.diagnosis import diagnosed
from techmarket.messages import gettext_noop as _

UNHEARD_OF = _("{worker} has not been heard of since {instant} UTC. Nothing was published.")
log = structlog.get_logger()


def reap() -> None:
    """Bury silent tasks, also of runs that have ended without them; of every active run, see to it that something is under way."""
    for task in silent_tasks():
        bury(task)
    for run in Run.objects.filter(state__in=ACTIVE):
        if run.worker:
            bury_alone(run)
        else:
            advance(run)


def silent_tasks() -> Iterator[Task]:
    yield from Task.objects.filter(is_silent(), state=State.RUNNING).select_related("run")


def bury(task: Task) -> None:
    """Published after all, if the warehouse says so; else queued again, or with no attempt left, or nobody to take it, lost."""
    if task.stage == Stage.LOAD:
        with diagnosed("dwh"):
            end_session(task.session)
            load = Load.objects.filter(run_uuid=task.run.uuid).first()
        if load:
            return published(task, load)
    cause = unheard_of(task)
    where = is_silent() & task.claimed()
    log.warning("a task's worker is silent", worker=task.worker, attempt=task.attempt, **labels(task))
    if task.run.is_active and not task.run.worker and task.attempt < settings.ETL_ATTEMPTS:
        task.move(
            State.RUNNING, to=State.QUEUED, where=where, claim=None, published_at=None, not_before=None, cause=cause, blame=Blame.MACHINE
        )
        # A worker dies with the messages that it has taken and not begun: the broker would keep them for hours.
        task.run.tasks.filter(state=State.QUEUED).update(published_at=None)
    elif task.move(State.RUNNING, to=State.LOST, where=where, finished_at=Now(), cause=cause, blame=Blame.MACHINE):
        lose(task.run, cause)
    return None


def published(task: Task, load: Load) -> None:
    """Its worker died between the commit and the ledger; the counts are those that etl_load kept."""
    if task.move(State.RUNNING, to=State.SUCCEEDED, where=task.claimed(), finished_at=Now()):
        counts = [RowCount(run=task.run, task=task, table=table, **row) for table, row in load.counts.items()]
        RowCount.objects.bulk_create(counts, ignore_conflicts=True)
        finish(task.run)


def bury_alone(run: Run) -> None:
    """A run that one process carried out, and that died between two tasks."""
    lose(run, unheard_of(run), is_silent())


def unheard_of(row: Run | Task) -> str:
    return UNHEARD_OF.format(worker=row.worker, instant=f"{row.heartbeat_at:%Y-%m-%d %H:%M:%S}")


def lose(run: Run, cause: str, where: Q = ANY) -> None:
    if run.move(*ACTIVE, to=State.LOST, where=where, finished_at=Now(), cause=cause, blame=Blame.MACHINE):
        log.error("run lost", run=run.pk, mode=run.mode, cause=cause)
        run_ended.send(Run, run=run)
