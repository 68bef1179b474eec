"""The timeline of a run: when each task was running, drawn by the server as one lane for each stage of each table."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.utils.translation import ngettext

from apps.etl.tables import TARGETS
from apps.orchestration import clock
from apps.orchestration.models import Stage, State, Task
from techmarket.formats import localize_count, localize_duration

WIDTH = 1_000  # of the timeline, in units of its SVG
MAX_GAP = 3  # bars of one state no further apart are merged: 500 slices would be 500 bars
MIN_BAR_WIDTH = 4  # a shorter bar would be invisible
MAX_IDLE_SHARE = 0.05  # an idle interval is drawn no longer than this share of the busy time
STAGES = list(Stage)
SUBJECTS = ["", *TARGETS]
FAILED_STATES = (State.FAILED, State.LOST)

Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Bar:
    left: int
    width: int
    state: str
    title: str


@dataclass(frozen=True)
class Lane:
    """The tasks of one stage of one table: their bars and their totals."""

    stage: Any
    subject: str
    bars: Sequence[Bar]
    done: int
    failed: int
    tasks: int
    duration: timedelta | None


@dataclass(frozen=True)
class Timeline:
    lanes: Sequence[Lane]
    start: datetime | None
    end: datetime | None
    shortened: bool


class Scale:
    """Maps instants to places on the timeline. Long idle intervals, such as before another attempt, are drawn shortened."""

    def __init__(self, spans: Iterable[Span]):
        self.spans = merge_spans(spans)
        busy = [end - start for start, end in self.spans]
        idle = [after - before for (_, before), (after, _) in zip(self.spans, self.spans[1:], strict=False)]
        longest = sum(busy, timedelta()) * MAX_IDLE_SHARE
        self.shortened = any(interval > longest for interval in idle)
        self.places = [timedelta()]
        for work, interval in zip(busy, idle, strict=False):
            self.places.append(self.places[-1] + work + min(interval, longest))
        self.total = (self.places[-1] + busy[-1] if busy else timedelta()) or timedelta(microseconds=1)

    def at(self, instant: datetime) -> int:
        """Return the place of an instant within one of the spans."""
        number = bisect_right(self.spans, instant, key=lambda span: span[0]) - 1
        return round((self.places[number] + (instant - self.spans[number][0])) / self.total * WIDTH)


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, with those that touch merged."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def draw_timeline(tasks: Sequence[Task], now: datetime | None = None) -> Timeline:
    now = now or clock.now()
    spans = {task.pk: span for task in tasks if (span := find_span(task, now))}
    scale = Scale(spans.values())
    in_lanes = sorted(tasks, key=lambda task: (lane_key(task), spans.get(task.pk, (now, now))))
    lanes = [make_lane(list(group), spans, scale) for _key, group in groupby(in_lanes, lane_key)]
    first, last = (scale.spans[0][0], scale.spans[-1][1]) if spans else (None, None)
    return Timeline(lanes, first, last, scale.shortened)


def lane_key(task: Task) -> tuple[int, int, str]:
    known = SUBJECTS.index(task.subject) if task.subject in SUBJECTS else len(SUBJECTS)
    return STAGES.index(Stage(task.stage)), known, task.subject


def find_span(task: Task, now: datetime) -> Span | None:
    """Return start and end of the last attempt; None for a queued task. A lost one ended with its last heartbeat."""
    if task.started_at is None or task.state == State.QUEUED:
        return None
    end = now if task.state == State.RUNNING else task.finished_at or task.heartbeat_at
    if task.state == State.LOST:
        end = task.heartbeat_at or end
    return task.started_at, max(end or task.started_at, task.started_at)


def make_lane(tasks: list[Task], spans: dict[int, Span], scale: Scale) -> Lane:
    running = [spans[task.pk] for task in tasks if task.pk in spans]
    duration = max(end for _, end in running) - min(start for start, _ in running) if running else None
    done, failed = (sum(task.state in states for task in tasks) for states in ((State.SUCCEEDED,), FAILED_STATES))
    stage = Stage(tasks[0].stage).label
    return Lane(stage, tasks[0].subject, list(make_bars(tasks, spans, scale)), done, failed, len(tasks), duration)


def make_bars(tasks: list[Task], spans: dict[int, Span], scale: Scale) -> Iterator[Bar]:
    """Yield the bars, those of failed tasks last, so that they are drawn over the others."""
    for state in sorted({State(task.state) for task in tasks}, key=lambda state: state in FAILED_STATES):
        matching = sorted(spans[task.pk] for task in tasks if task.state == state and task.pk in spans)
        for group in group_near(matching, scale):
            start, end = group[0][0], max(end for _, end in group)
            yield make_bar(state, start, end, len(group), scale)


def group_near(spans: list[Span], scale: Scale) -> Iterator[list[Span]]:
    """Yield groups of spans that overlap or are no more than MAX_GAP apart."""
    group: list[Span] = []
    reached = 0
    for span in spans:
        if group and scale.at(span[0]) - reached > MAX_GAP:
            yield group
            group, reached = [], 0
        group.append(span)
        reached = max(reached, scale.at(span[1]))
    if group:
        yield group


def make_bar(state: State, start: datetime, end: datetime, tasks: int, scale: Scale) -> Bar:
    left = min(scale.at(start), WIDTH - MIN_BAR_WIDTH)
    offset, duration = localize_duration(start - scale.spans[0][0]), localize_duration(end - start)
    text = ngettext(
        "%(state)s: %(tasks)s task, start +%(offset)s, duration %(duration)s",
        "%(state)s: %(tasks)s tasks, start +%(offset)s, duration %(duration)s",
        tasks,
    )
    title = text % {"state": state.label, "tasks": localize_count(tasks), "offset": offset, "duration": duration}
    return Bar(left, max(scale.at(end) - left, MIN_BAR_WIDTH), state.value, title)
