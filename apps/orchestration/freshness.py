"""How old the warehouse's rows are, judged by the schedules."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from apps.orchestration import clock
from apps.orchestration.duties import is_overdue
from apps.orchestration.models import DutyName, Run, State
from apps.orchestration.schedules import MODES, PUNCTUAL, expected_instants, find_periodic_task, stopped_schedules
from apps.warehouse.loads import read_high_water_mark

RED_STATES = (State.FAILED, State.LOST)
GREEN, AMBER, RED = "green", "amber", "red"
VARIANTS = {GREEN: "success", AMBER: "warning", RED: "danger"}
MISSED_RUNS_FOR_RED = 2


@dataclass(frozen=True)
class Freshness:
    """`as_of`: all changes before it are in the warehouse, None before the first load. `missed`: scheduled runs since without a load."""

    as_of: datetime | None
    age: timedelta
    missed: int
    failed: bool
    paused: bool = False  # a schedule starts no runs, so that nothing can be missed
    unplanned: bool = False  # a schedule's crontab has no time, so that nothing can be missed either
    unwatched: bool = False  # no worker looks for missed runs, so that a lost message starts none

    @property
    def light(self) -> str:
        if self.as_of is None or self.failed or self.missed >= MISSED_RUNS_FOR_RED:
            return RED
        return AMBER if self.missed or self.paused or self.unplanned or self.unwatched else GREEN

    @property
    def variant(self) -> str:
        """The variant of unfold's labels."""
        return VARIANTS[self.light]


def read_freshness(last: Run | None, running: Run | None, now: datetime | None = None) -> Freshness:
    """Return the freshness of the warehouse, whose last finished run is `last`. Raises EtlError where the warehouse is unreachable."""
    now = now or clock.now()
    as_of = read_high_water_mark()
    failed = last is not None and last.state in RED_STATES
    missed, unwatched = count_missed(as_of, running, now) if as_of else 0, is_overdue(DutyName.SCHEDULES, now)
    stopped = stopped_schedules(now).values()
    return Freshness(as_of, now - (as_of or now), missed, failed, any(stopped), not all(stopped), unwatched)


def count_missed(as_of: datetime, running: Run | None, now: datetime) -> int:
    """Count scheduled instants after `as_of`. One that the running run covers, or that beat may still be late for, is not missed yet."""
    until = min(now, running.created_at) - PUNCTUAL if running else now - PUNCTUAL
    return sum(1 for name in MODES for _ in instants_between(name, as_of, until))


def instants_between(name: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants of a schedule that is not paused, at most MISSED_RUNS_FOR_RED of them."""
    beat = find_periodic_task(name)
    instants = expected_instants(beat, start) if beat else iter(())
    return islice(takewhile(lambda instant: instant <= end, instants), MISSED_RUNS_FOR_RED)
