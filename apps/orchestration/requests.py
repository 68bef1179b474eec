"""What people and schedules ask for: a run, the same again, to go on with one, to end one. Skipped while another is active."""

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from apps.orchestration.models import ACTIVE, Run, Stage, State, Task, Trigger
from apps.orchestration.worker.delivery import deliver
from apps.orchestration.worker.heartbeat import cancelled
from apps.orchestration.worker.loop import end, worker_name
from apps.orchestration.worker.recovery import reap
from apps.warehouse.loads import Load
from techmarket.diagnosis import diagnosed
from techmarket.messages import gettext_noop
from techmarket.version import code_version

OVERLAPS = gettext_noop("Skipped: overlaps {run}.")
OVERLAPPED = gettext_noop("Skipped: overlaps a run that has just ended. Run it again.")
ACTIVE_STATES = [gettext_noop("queued"), gettext_noop("running")]
ACTIVE_RUN = gettext_noop("run {run} by {person}, {state} since {since}, last heartbeat {beat}")


class CannotResume(Exception):
    """`skipped`: the run is active or has succeeded; else it is unknown or too old."""

    def __init__(self, message: str, skipped: bool = False):
        super().__init__(message)
        self.skipped = skipped


def ask(
    mode: str,
    trigger: Trigger,
    asked_by: str,
    window_start: datetime | None = None,
    window_end: datetime | None = None,
    dry_run: bool = False,
    reason: str = "",
    queue: bool = False,
    repeats: Run | None = None,
) -> Run:
    """Write the run down, queued; or, where another is active, as skipped.

    With `queue` the workers share it; without, whoever asks carries it out.
    """
    reap()
    wanted: dict[str, Any] = {
        "mode": mode,
        "trigger": trigger,
        "asked_by": asked_by,
        "window_start": window_start,
        "window_end": window_end,
        "dry_run": dry_run,
        "reason": reason,
        "repeats": repeats,
        "code_version": code_version(),
        "worker": "" if queue else worker_name(),
    }
    try:
        with transaction.atomic():
            run = Run.objects.create(**wanted)
            Task.objects.create(run=run, stage=Stage.PLAN)
    except IntegrityError:
        return skipped(wanted)
    if queue:
        deliver(run)
    return run


def ask_again(run: Run, asked_by: str, trigger: Trigger, reason: str = "", queue: bool = False, publish: bool = False) -> Run:
    """A new run as `run` was asked for: what its plan settled from the high-water mark is settled anew.

    With `publish` a dry run is followed by one that is none.
    """
    start, end = (run.window_start, run.window_end) if run.window_end else (None, None)
    dry_run = run.dry_run and not publish
    return ask(run.mode, trigger, asked_by, start, end, dry_run=dry_run, reason=reason, queue=queue, repeats=run)


def skipped(wanted: dict[str, Any]) -> Run:
    active = active_run()
    cause = OVERLAPS.format(run=described(active)) if active else OVERLAPPED
    return Run.objects.create(**wanted, state=State.SKIPPED, overlaps=active, cause=cause, finished_at=Now())


def cancel(number: int, asked_by: str, reason: str = "") -> Run | None:
    """Ask a run to end; None where it is not active.

    If nothing of it is being carried out it has ended on return, else it does within ten seconds.
    """
    wish = {"cancelled_by": asked_by} | ({"reason": reason} if reason else {})
    if not Run.objects.filter(pk=number, state__in=ACTIVE).update(**wish):
        return None
    run = Run.objects.get(pk=number)
    if not run.worker and not run.tasks.filter(state=State.RUNNING).exists():
        end(run, cancelled(run))
    return run


def active_run() -> Run | None:
    return Run.objects.filter(state__in=ACTIVE).first()


def described(run: Run) -> str:
    since, beat = (f"{at.astimezone():%H:%M:%S %Z}" for at in (run.created_at, run.heartbeat_at))
    return ACTIVE_RUN.format(run=run.pk, person=run.asked_by, state=run.state, since=since, beat=beat)


def resume(number: int, queue: bool = False) -> Run:
    """Queue a run again that came to nothing; its tasks that succeeded stay done. Raises CannotResume."""
    reap()
    run = Run.objects.filter(pk=number).first()
    if run is None:
        raise CannotResume(_("There is no run %d. `manage.py run_etl` starts a new one.") % number)
    refuse_resume(run)
    return queued_again(run, queue)


def refuse_resume(run: Run) -> None:
    """Raises CannotResume where there is nothing to go on with, or it would publish what is stale."""
    if run.state == State.SUCCEEDED:
        raise CannotResume(_("Run %d has succeeded already; there is nothing to resume.") % run.pk, skipped=True)
    if run.is_active:
        raise CannotResume(f"R{described(run)[1:]}: it is active.", skipped=True)
    if run.dry_run:
        raise CannotResume(_("Run %d was a dry run: there is nothing to resume. Start a new run.") % run.pk)
    if run.state == State.SKIPPED:
        raise CannotResume(_("Run %d was skipped: there is nothing to resume. Start a new run.") % run.pk)
    with diagnosed("dwh"):
        later = Load.objects.filter(published_at__gt=run.created_at).first()
    if later:
        said = _("Run %(later)d was published after run %(number)d was asked for: its batches are stale. Start a new run.")
        raise CannotResume(said % {"later": later.run_id, "number": run.pk})
    if run.tasks.filter(stage=Stage.EXTRACT, state=State.SUCCEEDED).exists() and not run.batches.exists():
        raise CannotResume(_("The batches of run %d are gone. Start a new run.") % run.pk)


def queued_again(run: Run, queue: bool) -> Run:
    """Its tasks that came to nothing start over, with all their attempts."""
    fresh: dict[str, Any] = {"finished_at": None, "cause": "", "blame": "", "cancelled_by": "", "started_at": None}
    try:
        with transaction.atomic():
            ended = (State.FAILED, State.CANCELLED, State.LOST)
            if not run.move(*ended, to=State.QUEUED, heartbeat_at=Now(), worker="" if queue else worker_name(), **fresh):
                raise CannotResume(_("Run %d has just been resumed by somebody else.") % run.pk, skipped=True)
            undone = run.tasks.exclude(state=State.SUCCEEDED)
            undone.update(state=State.QUEUED, claim=None, attempt=0, not_before=None, published_at=None)
    except IntegrityError:
        active = active_run()
        raise CannotResume(f"Skipped: overlaps {described(active) if active else 'another run'}.", skipped=True) from None
    if queue:
        deliver(run)
    return run
