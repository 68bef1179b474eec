"""When each task of a run was at work, as a strip: a lane for each stage of each table, drawn by the server."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from apps.etl.tables import TARGETS
from apps.orchestration.models import Stage, State, Task
from techmarket.amounts import lasting, whole

WIDTH = 1_000  # of the strip, in the units of its drawing
NEAR = 3  # bars of one colour that are no further apart are one: 500 slices are not 500 bars
LEAST = 4  # a shorter task would not be seen
PAUSE = 0.05  # a wait in which nothing is at work takes no more of the strip than this share of the work
STAGES = list(Stage)
SUBJECTS = ["", *TARGETS]
BAD = (State.FAILED, State.LOST)

Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Bar:
    left: int
    width: int
    state: str
    title: str


@dataclass(frozen=True)
class Lane:
    """The tasks of one stage of one table: their bars, and the same in numbers."""

    stage: Any
    subject: str
    bars: Sequence[Bar]
    done: int
    failed: int
    tasks: int
    lasted: timedelta | None


@dataclass(frozen=True)
class Strip:
    lanes: Sequence[Lane]
    start: datetime | None
    end: datetime | None
    shortened: bool


class Scale:
    """Instants to places on the strip. Waits between tasks, as before another attempt, are drawn shortened."""

    def __init__(self, spans: Iterable[Span]):
        self.spans = merged(spans)
        works = [end - start for start, end in self.spans]
        waits = [after - before for (_, before), (after, _) in zip(self.spans, self.spans[1:], strict=False)]
        longest = sum(works, timedelta()) * PAUSE
        self.shortened = any(wait > longest for wait in waits)
        self.places = [timedelta()]
        for work, wait in zip(works, waits, strict=False):
            self.places.append(self.places[-1] + work + min(wait, longest))
        self.total = (self.places[-1] + works[-1] if works else timedelta()) or timedelta(microseconds=1)

    def at(self, instant: datetime) -> int:
        """Of an instant at which something was at work."""
        number = bisect_right(self.spans, instant, key=lambda span: span[0]) - 1
        return round((self.places[number] + (instant - self.spans[number][0])) / self.total * WIDTH)


def merged(spans: Iterable[Span]) -> list[Span]:
    """In order, those that touch as one."""
    whole_ones: list[Span] = []
    for start, end in sorted(spans):
        if whole_ones and start <= whole_ones[-1][1]:
            whole_ones[-1] = (whole_ones[-1][0], max(whole_ones[-1][1], end))
        else:
            whole_ones.append((start, end))
    return whole_ones


def strip(tasks: Sequence[Task], now: datetime | None = None) -> Strip:
    now = now or timezone.now()
    spans = {task.pk: span for task in tasks if (span := span_of(task, now))}
    scale = Scale(spans.values())
    in_lanes = sorted(tasks, key=lambda task: (lane_of(task), spans.get(task.pk, (now, now))))
    lanes = [lane(list(group), spans, scale) for _lane, group in groupby(in_lanes, lane_of)]
    first, last = (scale.spans[0][0], scale.spans[-1][1]) if spans else (None, None)
    return Strip(lanes, first, last, scale.shortened)


def lane_of(task: Task) -> tuple[int, int, str]:
    known = SUBJECTS.index(task.subject) if task.subject in SUBJECTS else len(SUBJECTS)
    return STAGES.index(Stage(task.stage)), known, task.subject


def span_of(task: Task, now: datetime) -> Span | None:
    """Of its last attempt. One that waits for another has none to show; one that fell silent worked until it was last heard of."""
    if task.started_at is None or task.state == State.QUEUED:
        return None
    end = now if task.state == State.RUNNING else task.finished_at or task.heartbeat_at
    if task.state == State.LOST:
        end = task.heartbeat_at or end
    return task.started_at, max(end or task.started_at, task.started_at)


def lane(tasks: list[Task], spans: dict[int, Span], scale: Scale) -> Lane:
    at_work = [spans[task.pk] for task in tasks if task.pk in spans]
    lasted = max(end for _, end in at_work) - min(start for start, _ in at_work) if at_work else None
    done, failed = (sum(task.state in states for task in tasks) for states in ((State.SUCCEEDED,), BAD))
    stage = Stage(tasks[0].stage).label
    return Lane(stage, tasks[0].subject, list(bars(tasks, spans, scale)), done, failed, len(tasks), lasted)


def bars(tasks: list[Task], spans: dict[int, Span], scale: Scale) -> Iterator[Bar]:
    """By state, so that what failed is drawn over what did not."""
    for state in sorted({State(task.state) for task in tasks}, key=lambda state: state in BAD):
        mine = sorted(spans[task.pk] for task in tasks if task.state == state and task.pk in spans)
        for near in together(mine, scale):
            start, end = near[0][0], max(end for _, end in near)
            yield bar(state, start, end, len(near), scale)


def together(spans: list[Span], scale: Scale) -> Iterator[list[Span]]:
    """Those that overlap or nearly do."""
    group: list[Span] = []
    reached = 0
    for span in spans:
        if group and scale.at(span[0]) - reached > NEAR:
            yield group
            group, reached = [], 0
        group.append(span)
        reached = max(reached, scale.at(span[1]))
    if group:
        yield group


def bar(state: State, start: datetime, end: datetime, tasks: int, scale: Scale) -> Bar:
    left = min(scale.at(start), WIDTH - LEAST)
    after, lasted = lasting(start - scale.spans[0][0]), lasting(end - start)
    title = _("%(state)s: %(tasks)s, after %(after)s, for %(lasted)s")
    said = title % {"state": state.label, "tasks": whole(tasks), "after": after, "lasted": lasted}
    return Bar(left, max(scale.at(end) - left, LEAST), state.value, said)
