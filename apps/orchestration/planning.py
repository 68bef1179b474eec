"""A run's tasks: written down once, and which of them may start now."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from apps.etl.extract.survey import survey
from apps.etl.preflight import preflight
from apps.etl.tables import EXTRACTION, FACT_TABLES
from apps.etl.window import Window
from apps.orchestration.models import Mode, Run, Stage, State, Task
from apps.warehouse.loads import Load
from techmarket.diagnosis import diagnosed

STAGES = (Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM, Stage.LOAD)


@dataclass(frozen=True)
class Plan:
    """What the run will do: its mode and window as settled, the mark that it will leave, and its tasks (not saved yet)."""

    mode: str
    window_start: datetime | None
    high_water_mark: datetime | None
    tasks: tuple[Task, ...]


def planned(run: Run) -> Plan:
    """One extract and one transform for each slice, one load. Raises Misconfigured where sources or warehouse are not ready."""
    preflight()
    mark = high_water_mark()
    mode, start = settled(run, mark)
    window = Window(start, run.window_end) if start else None
    due = survey(window, settings.ETL_BATCH_ORDERS)
    tasks = []
    for target in EXTRACTION:
        for low, high in due.slices[target.table]:
            stages = (Stage.EXTRACT, Stage.TRANSFORM) if target.sources else (Stage.TRANSFORM,)
            tasks += [Task(run=run, stage=stage, subject=target.table, low=low, high=high) for stage in stages]
    tasks.append(Task(run=run, stage=Stage.LOAD))
    return Plan(mode, start, coming_mark(mark, window, due.clock), tuple(tasks))


def high_water_mark() -> datetime | None:
    """Changes before it are in the warehouse."""
    with diagnosed("dwh"):
        latest = Load.objects.exclude(high_water_mark=None).order_by("-high_water_mark").first()
    return latest.high_water_mark if latest else None


def settled(run: Run, mark: datetime | None) -> tuple[str, datetime | None]:
    """An incremental run without a window goes from the mark less the overlap; without a mark it is a full one."""
    if run.mode == Mode.FULL or run.window_start:
        return run.mode, run.window_start
    if mark is None:
        return Mode.FULL, None
    return run.mode, mark - timedelta(minutes=settings.ETL_OVERLAP_MINUTES)


def window_of(run: Run) -> Window | None:
    return Window(run.window_start, run.window_end) if run.window_start else None


def coming_mark(mark: datetime | None, window: Window | None, clock: datetime) -> datetime | None:
    """What the mark will be: never earlier than it was, and no later than what was read without a gap."""
    if window is None:
        return clock
    if mark is None or window.start > mark:
        return mark
    return max(mark, min(window.end or clock, clock))


def ready(run: Run) -> list[Task]:
    """The queued tasks that nothing stands before any more.

    Dimensions are extracted after all facts (children before parents); a transform waits for its slice's extract; the load for all.
    """
    undone = list(run.tasks.exclude(state=State.SUCCEEDED))
    waits = {(task.stage, task.subject, task.low) for task in undone}
    facts = any(stage == Stage.EXTRACT and subject in FACT_TABLES for stage, subject, _ in waits)
    return [task for task in undone if task.state == State.QUEUED and may_start(task, waits, facts, len(undone))]


def may_start(task: Task, waits: set[tuple[str, str, int | None]], facts: bool, undone: int) -> bool:
    if task.stage == Stage.PLAN:
        return True
    if task.stage == Stage.EXTRACT:
        return task.subject in FACT_TABLES or not facts
    if task.stage == Stage.TRANSFORM:
        return (Stage.EXTRACT, task.subject, task.low) not in waits
    return undone == 1


def urgency(task: Task) -> tuple[int, bool]:
    """Sources are read first, and let go. Of the rest the large dimension, not one of many slices: nobody should wait for it at the end."""
    return STAGES.index(Stage(task.stage)), task.subject in FACT_TABLES and task.stage == Stage.TRANSFORM


def seconds_to_wait(tasks: list[Task]) -> float:
    """Until the first of these may be tried (again)."""
    now = timezone.now()
    return max(0.0, min((((task.not_before or now) - now).total_seconds() for task in tasks), default=0.0))
