"""What the ledger says of the runs, for the first page: few queries, however many runs there are."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from apps.orchestration.models import ACTIVE, Mode, Reject, Run, State
from apps.orchestration.schedules import MODES, next_due
from apps.orchestration.tally import Progress, Tally, progress, tallies

SHOWN = 30
ENDED = (State.SUCCEEDED, State.FAILED, State.LOST, State.CANCELLED)


@dataclass(frozen=True)
class Ended:
    """A run that has ended, and what came of it."""

    run: Run
    tally: Tally

    @property
    def lasted(self) -> timedelta:
        return timedelta(seconds=self.run.seconds or 0)


@dataclass(frozen=True)
class Running:
    """A run that is active."""

    run: Run
    progress: Progress


@dataclass(frozen=True)
class Next:
    schedule: str
    mode: str
    due_at: datetime | None


def real() -> "QuerySet[Run]":
    """Dry runs change nothing, and skipped ones were none."""
    return Run.objects.filter(dry_run=False, state__in=ENDED)


def last() -> Ended | None:
    run = real().first()
    return Ended(run, tallies([run])[run.pk]) if run else None


def shown() -> list[Run]:
    """The latest, oldest first."""
    return list(real()[:SHOWN])[::-1]


def running() -> Running | None:
    run = Run.objects.filter(state__in=ACTIVE).first()
    return Running(run, progress(run)) if run else None


def since_last_full() -> tuple[int, int | None]:
    """Rows that were rejected since everything was read anew, and the number of the run that did."""
    full = real().filter(state=State.SUCCEEDED, mode=Mode.FULL).values_list("pk", flat=True).first()
    rejects = Reject.objects.filter(run__gte=full or 0, run__state=State.SUCCEEDED, run__dry_run=False)
    return rejects.values("table", "row_id").distinct().count(), full


def due() -> list[Next]:
    """The next due instant of each schedule; none while it is paused."""
    instants = {name: next(iter(next_due(name, 1)), None) for name in MODES}
    return [Next(name, MODES[name], instant) for name, instant in instants.items()]
