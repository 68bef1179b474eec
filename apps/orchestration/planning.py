"""The plan of a run: its mode and window, derived from the latest load, the orders that it reads, and its tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.conf import settings

from apps.etl.checks import Result
from apps.etl.digest import rules_digest
from apps.etl.extract.survey import Survey, earliest_clock, survey_changes, survey_everything, survey_orders
from apps.etl.extract.sweep import Sweep, Swept
from apps.etl.preflight import preflight
from apps.etl.slices import SEGMENT
from apps.etl.tables import EXTRACTION
from apps.etl.window import ChangeWindow
from apps.orchestration.models import Mode, Run, Stage, Task
from apps.warehouse.loads import Load, latest_load
from apps.warehouse.models import OrderFingerprint
from techmarket.diagnosis import diagnosed
from techmarket.errors import MarkAhead
from techmarket.messages import message

# Servers' clocks differ by less. A mark that is further ahead of them was set by a wrong one.
CLOCK_TOLERANCE = timedelta(minutes=1)
MOST = 0.25  # of all orders: more are read faster as a whole than one by one


@dataclass(frozen=True)
class Plan:
    """The run's mode and window, what it is based on and will leave, the orders that it reads (None: all), its tasks (not saved yet).

    `warnings` are those of the preflight.
    """

    mode: str
    window_start: datetime | None
    high_water_mark: datetime | None
    based_on: int
    found: dict[str, Any] = field(default_factory=dict)
    orders: Any = None
    tasks: tuple[Task, ...] = ()
    warnings: Sequence[Result] = ()


def plan_run(run: Run) -> Plan:
    """Return one extract and one transform for each slice, and one load. Raises Misconfigured if a database is not ready."""
    warnings = preflight()
    latest = latest_load()
    why = why_everything(run, latest)
    mode, start = resolve_mode(run, latest, why)
    window = ChangeWindow(start, run.window_end) if start else None
    if run.orders is not None:
        survey, why = survey_orders(np.unique(np.array(run.orders, dtype=np.int64)), settings.ETL_BATCH_ORDERS), ""
    elif window:
        survey = survey_incremental(run, latest, window, comparable=not why)
    else:
        survey, why = survey_full(latest, why)
    mark = latest.high_water_mark if latest else None
    if run.orders is None:
        mark = next_high_water_mark(mark, window, survey.clock)
    based_on = latest.sequence if latest else 0
    return Plan(mode, start, mark, based_on, describe(survey, why, latest), survey.orders, tuple(plan_tasks(run, survey)), warnings)


def why_everything(run: Run, latest: Load | None) -> str:
    """Return why no order can be left unread; empty where the stored fingerprints tell which."""
    if run.reread:
        return "requested"
    if latest is None:
        return "first"
    if latest.rules != rules_digest(settings.SHOP_TIME_ZONE):
        return "rules"
    with diagnosed("dwh"):
        return "" if OrderFingerprint.objects.exists() else "first"


def resolve_mode(run: Run, latest: Load | None, why: str) -> tuple[str, datetime | None]:
    """Return mode and start. An incremental run without a window starts at the mark less the overlap, or is full where none will do."""
    if run.mode == Mode.FULL or run.window_start or run.orders is not None:
        return run.mode, run.window_start
    if why or latest is None or latest.high_water_mark is None:
        return Mode.FULL, None
    return run.mode, window_from_mark(latest.high_water_mark).start


def window_from_mark(mark: datetime) -> ChangeWindow:
    return ChangeWindow(mark - timedelta(minutes=settings.ETL_OVERLAP_MINUTES))


def survey_full(latest: Load | None, why: str) -> tuple[Survey, str]:
    """Compare everything and read what differs; where there is nothing to compare with or most differs, read everything."""
    if not why:
        mark = latest.high_water_mark if latest else None
        window = window_from_mark(mark) if mark else None
        found = survey_changes(window, Sweep.everything, settings.ETL_BATCH_ORDERS)
        if len(found.orders) <= MOST * SEGMENT * found.swept.segments:
            return found, ""
    return survey_everything(settings.ETL_BATCH_ORDERS), why or "most"


def survey_incremental(run: Run, latest: Load | None, window: ChangeWindow, comparable: bool) -> Survey:
    """Read what changed in the window, and what a sweep finds in the time that it has. Raises MarkAhead."""

    def sweep(orders: Sweep) -> Swept:
        if latest and not run.window_start:
            refuse_mark_ahead(latest.high_water_mark, earliest_clock(orders.snapshots))
        return orders.for_seconds(settings.ETL_SWEEP_SECONDS if comparable else 0)

    return survey_changes(window, sweep, settings.ETL_BATCH_ORDERS)


def refuse_mark_ahead(mark: datetime | None, clock: datetime) -> None:
    if mark and mark > clock + CLOCK_TOLERANCE:
        raise MarkAhead(message("plan.mark_ahead", mark=f"{mark:%Y-%m-%d %H:%M:%S}", clock=f"{clock:%Y-%m-%d %H:%M:%S}"))


def describe(survey: Survey, why: str, latest: Load | None) -> dict[str, Any]:
    """Return what the ledger stores of the survey."""
    as_of, swept = survey.clock.isoformat(), survey.swept
    if survey.orders is None:
        return {"as_of": as_of, "rules": rules_digest(settings.SHOP_TIME_ZONE), "everything": why}
    rules = latest.rules if latest else ""
    return {
        "as_of": as_of,
        "rules": rules,
        "orders": dict(survey.found),
        "segments": swept.segments,
        "proven": swept.bounds,
        "changed_star": swept.star,
    }


def plan_tasks(run: Run, survey: Survey) -> Iterable[Task]:
    for target in EXTRACTION:
        for low, high in survey.slices[target.table]:
            stages = (Stage.EXTRACT, Stage.TRANSFORM) if target.sources else (Stage.TRANSFORM,)
            yield from (Task(run=run, stage=stage, subject=target.table, low=low, high=high) for stage in stages)
    yield Task(run=run, stage=Stage.LOAD)


def next_high_water_mark(mark: datetime | None, window: ChangeWindow | None, clock: datetime) -> datetime | None:
    """Return the mark after the run: a full run's is the sources' clock; any other moves it forward where its window left no gap."""
    if window is None:
        return clock
    if mark is None or window.start > window_from_mark(mark).start:
        return mark
    return max(mark, min(window.end or clock, clock))
