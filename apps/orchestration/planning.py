"""The plan of a run: its mode and window, derived from the high-water mark, and its tasks."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from apps.etl.extract.survey import survey
from apps.etl.preflight import preflight
from apps.etl.tables import EXTRACTION
from apps.etl.window import ChangeWindow
from apps.orchestration.models import Mode, Run, Stage, Task
from apps.warehouse.loads import read_high_water_mark


@dataclass(frozen=True)
class Plan:
    """The run's mode and window, the high-water mark that it will leave, and its tasks (not saved yet)."""

    mode: str
    window_start: datetime | None
    high_water_mark: datetime | None
    tasks: tuple[Task, ...]


def plan_run(run: Run) -> Plan:
    """Return one extract and one transform for each slice, and one load. Raises Misconfigured if a database is not ready."""
    preflight()
    mark = read_high_water_mark()
    mode, start = resolve_mode(run, mark)
    window = ChangeWindow(start, run.window_end) if start else None
    found = survey(window, settings.ETL_BATCH_ORDERS)
    tasks = []
    for target in EXTRACTION:
        for low, high in found.slices[target.table]:
            stages = (Stage.EXTRACT, Stage.TRANSFORM) if target.sources else (Stage.TRANSFORM,)
            tasks += [Task(run=run, stage=stage, subject=target.table, low=low, high=high) for stage in stages]
    tasks.append(Task(run=run, stage=Stage.LOAD))
    return Plan(mode, start, next_high_water_mark(mark, window, found.clock), tuple(tasks))


def resolve_mode(run: Run, mark: datetime | None) -> tuple[str, datetime | None]:
    """Return mode and start: an incremental run without a window goes from the mark less the overlap, and without a mark is a full one."""
    if run.mode == Mode.FULL or run.window_start:
        return run.mode, run.window_start
    if mark is None:
        return Mode.FULL, None
    return run.mode, mark - timedelta(minutes=settings.ETL_OVERLAP_MINUTES)


def window_of(run: Run) -> ChangeWindow | None:
    return ChangeWindow(run.window_start, run.window_end) if run.window_start else None


def next_high_water_mark(mark: datetime | None, window: ChangeWindow | None, clock: datetime) -> datetime | None:
    """Return the mark after the run: never earlier than it was, and no later than what was read without a gap."""
    if window is None:
        return clock
    if mark is None or window.start > mark:
        return mark
    return max(mark, min(window.end or clock, clock))
