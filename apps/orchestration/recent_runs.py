"""The latest runs, for the overview and the metrics: a few queries for any number of runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, QuerySet

from apps.orchestration.models import ACTIVE, RejectState, Run, StandingReject, State
from apps.orchestration.schedules import MODES, next_instants
from apps.orchestration.tally import WORTH, Progress, Tally, progress, tallies, to_uah

SHOWN = 30
FINISHED = (State.SUCCEEDED, State.FAILED, State.LOST, State.CANCELLED)


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended, and its totals."""

    run: Run
    tally: Tally

    @property
    def duration(self) -> timedelta:
        return timedelta(seconds=self.run.seconds or 0)


@dataclass(frozen=True)
class ActiveRun:
    run: Run
    progress: Progress


@dataclass(frozen=True)
class NextRun:
    schedule: str
    mode: str
    scheduled_for: datetime | None


def finished_runs() -> "QuerySet[Run]":
    """Return the runs that ended, without dry runs, which change nothing, and skipped ones."""
    return Run.objects.filter(dry_run=False, state__in=FINISHED)


def last_finished_run() -> FinishedRun | None:
    run = finished_runs().first()
    return FinishedRun(run, tallies([run])[run.pk]) if run else None


def latest_runs() -> list[Run]:
    """Return the latest finished runs, oldest first."""
    return list(finished_runs()[:SHOWN])[::-1]


def active_run() -> ActiveRun | None:
    run = Run.objects.filter(state__in=ACTIVE).first()
    return ActiveRun(run, progress(run)) if run else None


@dataclass(frozen=True)
class OpenRejects:
    """Rejects that stand and that nobody has accepted; UAH that the warehouse lacks because of them."""

    count: int
    net: Decimal  # of lines
    paid: Decimal  # amounts of payments


def open_rejects() -> OpenRejects:
    opened = StandingReject.objects.filter(state=RejectState.OPEN)
    sums = opened.aggregate(count=Count("pk"), **WORTH)
    return OpenRejects(sums["count"], to_uah(sums["net"]), to_uah(sums["paid"]))


def next_runs() -> list[NextRun]:
    """Return the next instant of each schedule, None while it is paused."""
    instants = {name: next(iter(next_instants(name, 1)), None) for name in MODES}
    return [NextRun(name, MODES[name], instant) for name, instant in instants.items()]
