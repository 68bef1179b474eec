"""Worker heartbeat and cancellation listener."""

import threading
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from django.conf import settings
from django.db import Error, connection
from django.db.models.functions import Now

from apps.etl.interrupts import interrupt
from apps.orchestration import clock
from apps.orchestration.hosts import measure_clock
from apps.orchestration.models import ACTIVE, Role, Run, State, Task
from apps.orchestration.outcome import cancelled_by_person
from apps.orchestration.worker.presence import announce_process
from techmarket.commands import heed_signals
from techmarket.errors import ClaimLost, EtlError, TimedOut
from techmarket.messages import message

LISTEN_INTERVAL_S = 1.0  # between two checks for what ends the work


class Heartbeat:
    """Sends heartbeats for the task of one run that is being executed here, and for the run itself where `worker` is its local executor.

    It uses the control database's clock and a thread of its own: a worker in a COPY of minutes must not look dead. `cause` is what ends the
    work; from then on every wait of the process is interrupted, until the work has noticed.
    """

    def __init__(self, run_id: int, worker: str, role: Role = Role.LOCAL):
        self.run_id = run_id
        self.worker = worker
        self.role = role
        self.claim: UUID | None = None  # of the task that is being executed
        self.cause: EtlError | None = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.beat, daemon=True, name=f"heartbeat of run {run_id}")

    def __enter__(self) -> Self:
        announce_process()
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stopped.set()
        self.thread.join()

    def check(self) -> None:
        """Raise whatever ends the work: a signal, a cancellation, the time limit, a lost claim."""
        heed_signals()
        if self.cause:
            raise self.cause

    def beat(self) -> None:
        since_write = 0.0
        measure_clock(self.role)
        while not self.stopped.wait(LISTEN_INTERVAL_S):
            since_write += LISTEN_INTERVAL_S
            try:
                if since_write >= settings.ETL_HEARTBEAT_SECONDS:
                    since_write = 0.0
                    self.write()
                    measure_clock(self.role)
                self.cause = self.cause or self.listen()
            except (Error, EtlError):  # the latter from whatever asks the clock
                connection.close()  # the next beat tries a new one; if none succeeds, the reaper is right to act
            if self.cause:
                interrupt()
        connection.close()

    def write(self) -> None:
        Run.objects.filter(pk=self.run_id, worker=self.worker, state__in=ACTIVE).update(heartbeat_at=Now())
        if self.claim:  # not by the worker's name: a process that was started again may have that of a dead one
            Task.objects.filter(claim=self.claim, state=State.RUNNING).update(heartbeat_at=Now())

    def listen(self) -> EtlError | None:
        """Return what ends the work according to the ledger."""
        run = Run.objects.only("state", "mode", "cancelled_by", "reason", "started_at").get(pk=self.run_id)
        if run.cancelled_by:
            return cancelled_by_person(run)
        if is_overdue(run):
            return timed_out(run)
        if not run.is_active:
            return ClaimLost(message("run.ended_elsewhere", run=run.pk))
        claim = self.claim  # may change during the query, whose result is then about another task
        if claim and not is_held(claim) and self.claim == claim:
            return ClaimLost()
        return None


def is_held(claim: UUID) -> bool:
    """Return True if no other attempt has begun. Only running tasks are indexed by their claims; one that has just ended is rarely met."""
    held = Task.objects.filter(claim=claim)
    return held.filter(state=State.RUNNING).exists() or held.exists()


def is_overdue(run: Run) -> bool:
    limit = timedelta(seconds=settings.RUN_LIMITS[run.mode])
    return run.started_at is not None and clock.now() - run.started_at > limit


def timed_out(run: Run) -> TimedOut:
    return TimedOut(message("run.timed_out", seconds=settings.RUN_LIMITS[run.mode]))
