"""Start, repeat, resume and cancel runs, for every kind of requester. While a run is active, a new one is recorded as skipped."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from apps.audit.chain import record
from apps.audit.models import Deed
from apps.orchestration import clock
from apps.orchestration.models import ACTIVE, UNSUCCESSFUL, Executor, Mode, Run, Stage, State, Trigger
from apps.orchestration.outcome import cancelled_by_person, end_run, settle_publication
from apps.orchestration.publication import is_in_doubt
from apps.orchestration.ready import PlannedTask, save_tasks
from apps.orchestration.window import Window
from apps.orchestration.worker.delivery import send_ready_tasks
from apps.orchestration.worker.presence import announce_process, worker_name
from apps.orchestration.worker.recovery import reap
from apps.warehouse.loads import Load, latest_load
from techmarket.connections import close_connections, close_dead_connections
from techmarket.errors import Usage
from techmarket.messages import Message, message
from techmarket.version import code_version

UNCLAIMED_AFTER_S = 10.0  # after which a hint is shown for a queued run that no worker has claimed


class CannotResume(Exception):
    """`skipped`: the run is active or has succeeded; otherwise it is unknown or too old."""

    def __init__(self, text: str, skipped: bool = False):
        super().__init__(text)
        self.skipped = skipped


def start_run(
    mode: str,
    trigger: Trigger,
    requested_by: str,
    window: Window | None = None,
    dry_run: bool = False,
    reason: str = "",
    queue: bool = False,
    rerun_of: Run | None = None,
    reread: bool = False,
    orders: Sequence[int] | None = None,
) -> Run:
    """Record the run as queued or, where another is active, as skipped. Raises Usage where mode and window contradict each other.

    `orders`: ids of the orders to read, and no others. `reread`: a full run that reads every order, whatever its fingerprint says.

    With `queue` Celery's workers execute it; without, the caller does, by `worker.local.execute_run`.
    """
    window = window or Window.everything()
    window.check_mode(mode)
    if reread and mode != Mode.FULL:
        raise Usage(_("Only a full run rereads everything."))
    close_connections()  # a process may have been idle for hours since its last run
    reap()
    fields: dict[str, Any] = {
        "mode": mode,
        "trigger": trigger,
        "requested_by": requested_by,
        "window_start": window.start,
        "window_end": window.end,
        "dry_run": dry_run,
        "reread": reread,
        "orders": None if orders is None else list(orders),
        "reason": reason,
        "rerun_of": rerun_of,
        "code_version": code_version(),
        **executor_fields(queue),
    }
    try:
        with transaction.atomic():
            run = Run.objects.create(**fields)
            save_tasks(run, [PlannedTask(Stage.PLAN)])
            record(start_deed(run), run, after=describe_request(run), reason=reason)
    except IntegrityError:
        return create_skipped_run(fields)
    if queue:
        send_ready_tasks(run)
    return run


def executor_fields(queue: bool) -> dict[str, str]:
    if queue:
        return {"executor": Executor.WORKERS, "worker": ""}
    announce_process()
    return {"executor": Executor.LOCAL, "worker": worker_name()}


def rerun(run: Run, requested_by: str, trigger: Trigger, reason: str = "", queue: bool = False, publish: bool = False) -> Run:
    """Start a new run as `run` was requested: what its plan derived from the high-water mark is derived again.

    With `publish` a dry run is followed by one that publishes.
    """
    window = Window(run.window_start, run.window_end) if run.window_end else Window.everything()
    dry_run = run.dry_run and not publish
    return start_run(
        run.mode,
        trigger,
        requested_by,
        window,
        dry_run=dry_run,
        reason=reason,
        queue=queue,
        rerun_of=run,
        reread=run.reread,
        orders=run.orders,
    )


@transaction.atomic
def create_skipped_run(fields: dict[str, Any]) -> Run:
    active = find_active_run()
    run = Run.objects.create(**fields, state=State.SKIPPED, overlaps=active, cause=describe_overlap(active), finished_at=Now())
    record(Deed.RUN_SKIPPED, run, after=describe_request(run), reason=run.reason)
    return run


def start_deed(run: Run) -> Deed:
    if run.rerun_of_id:
        return Deed.RUN_RERUN
    return Deed.DRY_RUN_STARTED if run.dry_run else Deed.RUN_STARTED


def describe_request(run: Run) -> dict[str, Any]:
    """Return what the run is to do, for the audit log."""
    names = ("mode", "trigger", "requested_by", "window_start", "window_end", "dry_run", "reread", "rerun_of_id")
    request = {name: getattr(run, name) for name in names if getattr(run, name)}
    return request if run.orders is None else request | {"orders": len(run.orders)}


def cancel_run(number: int, requested_by: str, reason: str = "") -> Run | None:
    """Request the cancellation of a run. Return None where it is not active.

    If no task of it is being executed it has ended on return, otherwise it ends within ten seconds.
    """
    close_dead_connections()
    run = Run.objects.filter(pk=number).first()
    if run is None:
        return None
    with transaction.atomic():
        if not run.request_cancel(requested_by, reason):
            return None
        record(Deed.RUN_CANCELLED, run, reason=reason)
    if not run.is_local and not run.tasks.filter(state=State.RUNNING).exists():
        end_run(run, cancelled_by_person(run))
    return run


def find_active_run() -> Run | None:
    return Run.objects.filter(state__in=ACTIVE).first()


def describe_overlap(active: Run | None) -> Message:
    """Return why a run cannot start now; `active` may have ended since it stood in the way."""
    if active is None:
        return message("run.overlaps_ended")
    silence, limit = (clock.now() - last_heartbeat(active)).total_seconds(), settings.ETL_LOST_AFTER_SECONDS
    if not active.is_executed or silence <= 2 * settings.ETL_HEARTBEAT_SECONDS:
        return message("run.overlaps", run=describe_active_run(active))
    wait = max(1, math.ceil(limit - silence) + 1)
    return message("run.overlaps_silent", run=describe_active_run(active), silence=round(silence), limit=limit, wait=wait)


def last_heartbeat(run: Run) -> datetime:
    """Return the last sign of the run's executor or of any worker that has a task of it."""
    beats = run.tasks.filter(state=State.RUNNING).values_list("heartbeat_at", flat=True)
    return max([run.heartbeat_at, *filter(None, beats)])


def describe_active_run(run: Run) -> Message:
    since, beat = (f"{instant.astimezone():%H:%M:%S %Z}" for instant in (run.created_at, last_heartbeat(run)))
    state = message(f"state.{run.state}")
    if run.state == State.QUEUED and not run.is_executed:
        return message("run.active_queued", run=run.pk, person=run.requested_by, state=state, since=since)
    return message("run.active", run=run.pk, person=run.requested_by, state=state, since=since, beat=beat)


def resume_run(number: int, queue: bool = False, accepted_by: str = "", because: str = "") -> Run:
    """Queue an unsuccessful run again, `because` of what; its tasks that succeeded stay done. Raises CannotResume.

    `accepted_by`: who accepts what the brakes found; the run publishes then.
    """
    close_connections()
    reap()
    run = Run.objects.filter(pk=number).first()
    if run is None:
        raise CannotResume(_("There is no run %d. `manage.py run_etl` starts a new one.") % number)
    check_resumable(run)
    if accepted_by and not run.is_braked:
        raise CannotResume(_("Run %d was not stopped by the brakes: there is nothing to accept.") % run.pk)
    before = run.state
    acceptance = {"accepted_by": accepted_by, "accepted_because": because} if accepted_by else {}
    try:
        with transaction.atomic():
            if not run.requeue(**executor_fields(queue), **acceptance):
                raise CannotResume(_("Another process has just resumed run %d.") % run.pk, skipped=True)
            record(Deed.RUN_ACCEPTED if accepted_by else Deed.RUN_RESUMED, run, before={"state": before}, reason=because)
    except IntegrityError:
        raise CannotResume(describe_overlap(find_active_run()), skipped=True) from None
    if queue:
        send_ready_tasks(run)
    return run


def is_stale(run: Run, latest: Load) -> bool:
    """Return whether another load was published since the run was planned. Without a plan it has read nothing that could be stale."""
    return run.based_on is not None and latest.sequence != run.based_on


def check_resumable(run: Run) -> None:
    """Raise CannotResume where there is nothing to resume, or resuming would publish stale rows.

    The warehouse is asked first: a run that was published has succeeded, whatever the ledger says.
    """
    if run.state in UNSUCCESSFUL and not run.dry_run and settle_publication(run) is None and is_in_doubt(run):
        raise CannotResume(_("Whether run %d was published is unknown: the warehouse does not answer. Start it, then resume.") % run.pk)
    if run.state == State.SUCCEEDED:
        raise CannotResume(_("Run %d has succeeded already; there is nothing to resume.") % run.pk, skipped=True)
    if run.is_active:
        raise CannotResume(f"R{describe_active_run(run)[1:]}: it is active.", skipped=True)
    if run.dry_run:
        raise CannotResume(_("Run %d was a dry run: there is nothing to resume. Start a new run.") % run.pk)
    if run.state == State.SKIPPED:
        raise CannotResume(_("Run %d was skipped: there is nothing to resume. Start a new run.") % run.pk)
    if not run.found and run.tasks.filter(stage=Stage.PLAN, state=State.SUCCEEDED).exists():
        raise CannotResume(_("Run %d was planned by an earlier version. Start a new run.") % run.pk)
    later = latest_load()
    if later and is_stale(run, later):
        text = _("Run %(later)d was published after run %(number)d was requested: its batches are stale. Start a new run.")
        raise CannotResume(text % {"later": later.run_id, "number": run.pk})
    if run.has_lost_batches:
        raise CannotResume(_("The batches of run %d have been deleted, or a backup without them was restored. Start a new run.") % run.pk)
