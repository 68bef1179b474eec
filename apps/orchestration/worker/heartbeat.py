"""The sign of life of a worker, written beside its work, and the ear for what ends it: a cancel, a limit, a claim that is lost."""

import threading
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.etl.interrupts import interrupt
from apps.orchestration.models import Run, State, Task
from techmarket.commands import heed_signals
from techmarket.errors import Cancelled, ClaimLost, EtlError, TimedOut
from techmarket.messages import gettext_noop as _

CANCELLED = _("Cancelled by {person}. Nothing was published.")
TIMED_OUT = _("The run took longer than its limit of {seconds} s. Nothing was published.")
ENDED = _("Run {run} was ended by somebody else. Nothing was published from here.")
LISTEN = 1.0  # seconds between two looks at what might end the work


class Heartbeat:
    """Beats for the tasks that `worker` holds of one run, and for the run where `worker` carries it out alone.

    By the control database's clock, in a thread of its own: a COPY of minutes must not look like a death. `cause` is what ends the
    work; then what the process waits for is interrupted, again and again until the work has noticed.
    """

    def __init__(self, run_id: int, worker: str):
        self.run_id = run_id
        self.worker = worker
        self.claim: UUID | None = None  # of the task that is being executed
        self.cause: EtlError | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.beat, daemon=True, name=f"heartbeat of run {run_id}")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ended.set()
        self.thread.join()

    def check(self) -> None:
        """Raises what has come to end the work."""
        heed_signals()
        if self.cause:
            raise self.cause

    def beat(self) -> None:
        due = 0.0
        while not self.ended.wait(LISTEN):
            due += LISTEN
            try:
                if due >= settings.ETL_HEARTBEAT_SECONDS:
                    due = 0.0
                    self.write()
                self.cause = self.cause or self.listen()
            except DatabaseError:
                connection.close()  # the next beat tries anew; if none comes through, the reaper is right to come
            if self.cause:
                interrupt()
        connection.close()

    def write(self) -> None:
        mine = Q(worker=self.worker, state=State.RUNNING)
        Run.objects.filter(mine, pk=self.run_id).update(heartbeat_at=Now())
        Task.objects.filter(mine, run=self.run_id).update(heartbeat_at=Now())

    def listen(self) -> EtlError | None:
        run = Run.objects.only("state", "mode", "cancelled_by", "reason", "started_at").get(pk=self.run_id)
        if run.cancelled_by:
            return cancelled(run)
        if overdue(run):
            return timed_out(run)
        if not run.is_active:
            return ClaimLost(ENDED.format(run=run.pk))
        claim = self.claim  # may end or change meanwhile: then the ledger's answer is about another task
        if claim and not Task.objects.filter(claim=claim).exists() and self.claim == claim:
            return ClaimLost()
        return None


def cancelled(run: Run) -> Cancelled:
    why = f": {run.reason.rstrip('.')}" if run.reason else ""
    return Cancelled(CANCELLED.format(person=f"{run.cancelled_by}{why}"))


def overdue(run: Run) -> bool:
    limit = timedelta(seconds=settings.RUN_LIMITS[run.mode])
    return run.started_at is not None and timezone.now() - run.started_at > limit


def timed_out(run: Run) -> TimedOut:
    return TimedOut(TIMED_OUT.format(seconds=settings.RUN_LIMITS[run.mode]))
