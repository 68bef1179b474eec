"""How old the warehouse's rows are, judged by the schedules."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from django.utils import timezone

from apps.orchestration.models import Run, State
from apps.orchestration.planning import high_water_mark
from apps.orchestration.schedules import MODES, PUNCTUAL, beat_of, due_instants

BAD = (State.FAILED, State.LOST)
GREEN, AMBER, RED = "green", "amber", "red"
VARIANTS = {GREEN: "success", AMBER: "warning", RED: "danger"}
ENOUGH = 2  # missed runs that make it red


@dataclass(frozen=True)
class Freshness:
    """`as_of`: changes before it are in the warehouse; None before the first load. `missed`: due instants since without a load."""

    as_of: datetime | None
    age: timedelta
    missed: int
    failed: bool

    @property
    def light(self) -> str:
        if self.as_of is None or self.failed or self.missed >= ENOUGH:
            return RED
        return AMBER if self.missed else GREEN

    @property
    def variant(self) -> str:
        """Of unfold's labels."""
        return VARIANTS[self.light]


def freshness(last: Run | None, running: Run | None, now: datetime | None = None) -> Freshness:
    """Of the warehouse, whose last run that ended is `last`. Raises EtlError where it cannot be asked."""
    now = now or timezone.now()
    as_of = high_water_mark()
    failed = last is not None and last.state in BAD
    return Freshness(as_of, now - (as_of or now), missed(as_of, running, now) if as_of else 0, failed)


def missed(as_of: datetime, running: Run | None, now: datetime) -> int:
    """Due instants after `as_of`. One that a run is at work on, or that beat may still be late for, is not missed yet."""
    until = min(now, running.created_at) - PUNCTUAL if running else now - PUNCTUAL
    return sum(1 for name in MODES for _ in due_between(name, as_of, until))


def due_between(name: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Of the schedule, where it is not paused; no more than matter."""
    beat = beat_of(name)
    instants = due_instants(beat.crontab, start) if beat and beat.enabled else iter(())
    return islice(takewhile(lambda instant: instant <= end, instants), ENOUGH)
