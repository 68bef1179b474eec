"""The plan of a run: its mode and window, derived from the latest load, the orders that it reads, and its tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from django.conf import settings
from django.db import connections, transaction

from apps.etl.batch_store import batch_store
from apps.etl.checks import Result
from apps.etl.declarations import Fact, Target
from apps.etl.digest import rules_digest
from apps.etl.extract.dimensions import compute_fingerprints
from apps.etl.extract.survey import Snapshots, Survey, Swept, earliest_clock, survey_changes, survey_everything, survey_orders
from apps.etl.load.relations import may_build, may_create
from apps.etl.preflight import preflight
from apps.etl.slices import EVERYTHING, SEGMENT, Bounds, Slices
from apps.etl.tables import DIM_DATE, EXTRACTION, FACTS
from apps.etl.window import ChangeWindow
from apps.orchestration.known import calendar_fingerprint, known_fingerprint, requested_on
from apps.orchestration.models import Mode, Run, Stage
from apps.orchestration.ready import PlannedTask
from apps.warehouse.loads import Load, latest_load
from apps.warehouse.models import OrderFingerprint
from apps.warehouse.own_schema import fix_schema
from techmarket.diagnosis import diagnosed
from techmarket.errors import MarkAhead
from techmarket.messages import message

# Servers' clocks differ by less. A mark that is further ahead of them was set by a wrong one.
CLOCK_TOLERANCE = timedelta(minutes=1)
# Slices of 20 000 orders that are prepared together: about 350 000 lines, which one of two workers takes 1.5 s for.
SLICES_PER_RANGE, MOST_RANGES = 7, 64
MOST_LOOKED_AT = 32  # slices; one of 20 000 customers takes 0.06 s
MOST = 0.25  # of all orders: more are read faster as a whole than one by one (25.2 s for all of a million, as a whole 13.1)


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
    tasks: Sequence[PlannedTask] = ()
    warnings: Sequence[Result] = ()


def plan_run(run: Run) -> Plan:
    """Return one extract and one transform for each slice, and one load. Raises Misconfigured if a database is not ready."""
    if store := batch_store():
        store.check(f"{run.uuid}/check")
    warnings = preflight()
    latest = latest_load()
    why = why_everything(run, latest)
    mode, start = resolve_mode(run, latest, why)
    window = ChangeWindow(start, run.window_end) if start else None
    if run.orders is not None:
        survey, why = survey_orders(sorted({*run.orders}), settings.ETL_BATCH_ORDERS), ""
    elif window:
        survey, why = survey_incremental(run, latest, window, comparable=not why)
    else:
        survey, why = survey_full(latest, why)
    mark = latest.high_water_mark if latest else None
    if run.orders is None:
        mark = next_high_water_mark(mark, window, survey.clock)
    based_on = latest.sequence if latest else 0
    found = describe(survey, why, latest) | plan_preparation(survey)
    tasks = [*plan_slices(run, survey, latest), *(plan_ranges(survey) if found["prepared"] else ()), PlannedTask(Stage.LOAD)]
    return Plan(mode, start, mark, based_on, found, survey.orders, tasks, warnings)


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
        found = survey_changes(window, sweep_everything, settings.ETL_BATCH_ORDERS)
        if len(found.orders) <= MOST * SEGMENT * found.swept.segments:
            return found, ""
    return survey_everything(settings.ETL_BATCH_ORDERS), why or "most"


def sweep_everything(snapshots: Snapshots, known: Sequence[int]) -> Swept:
    from apps.etl.extract.sweep import Sweep  # numpy: see survey.py

    return Sweep(snapshots, known).everything()


def survey_incremental(run: Run, latest: Load | None, window: ChangeWindow, comparable: bool) -> tuple[Survey, str]:
    """Read what changed in the window, and what a sweep finds in the time that it has. Raises MarkAhead.

    Where nobody has asked for this window and it covers most of the shop, read everything.
    """

    def sweep(snapshots: Snapshots, known: Sequence[int]) -> Swept:
        if latest and not run.window_start:
            refuse_mark_ahead(latest.high_water_mark, earliest_clock(snapshots))
        if not comparable or not settings.ETL_SWEEP_SECONDS:
            return Swept()
        from apps.etl.extract.sweep import Sweep  # numpy: see survey.py

        return Sweep(snapshots, known).for_seconds(settings.ETL_SWEEP_SECONDS)

    found = survey_changes(window, sweep, settings.ETL_BATCH_ORDERS)
    several_slices = len(found.orders) > settings.ETL_BATCH_ORDERS  # otherwise not worth the count
    if not run.window_start and several_slices and len(found.orders) > MOST * count_known_orders():
        return survey_everything(settings.ETL_BATCH_ORDERS), "most"
    return found, ""


def count_known_orders() -> int:
    with diagnosed("dwh"):
        return OrderFingerprint.objects.count()


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


def plan_preparation(survey: Survey) -> dict[str, Any]:
    """Return whether facts are prepared by tasks of their own, and which of them get whole partitions: those without rows, of all orders.

    SQLite admits one writer at a time; and on PostgreSQL a user without the right to create tables can still load. Some orders of a fact
    that somebody has emptied are merged: the next full run finds the others missing.
    """
    if not reads_orders(survey) or connections["dwh"].vendor != "postgresql":
        return {"prepared": False, "new": []}
    with diagnosed("dwh"), transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        fix_schema(cursor)
        prepared = may_create(cursor)
        is_whole = prepared and survey.orders is None
        return {"prepared": prepared, "new": [fact.table for fact in FACTS if is_whole and may_build(cursor, fact)]}


def plan_slices(run: Run, survey: Survey, latest: Load | None) -> Iterable[PlannedTask]:
    for target, (low, high) in find_slices(run, survey, latest):
        stages = (Stage.EXTRACT, Stage.TRANSFORM) if target.sources else (Stage.TRANSFORM,)
        yield from (PlannedTask(stage, target.table, low, high) for stage in stages)


def plan_ranges(survey: Survey) -> Iterable[PlannedTask]:
    for fact in FACTS:
        yield from (PlannedTask(Stage.PREPARE, fact.table, low, high) for low, high in group_slices(survey.slices[fact.table]))


def reads_orders(survey: Survey) -> bool:
    return survey.orders is None or len(survey.orders) > 0


def group_slices(slices: Slices) -> list[Bounds]:
    """Return the ranges to prepare, of several slices each: what a partition holds. A table of thousands of them is slow to plan for."""
    size = max(SLICES_PER_RANGE, -(-len(slices) // MOST_RANGES))
    return [(group[0][0], group[-1][1]) for group in batched(slices, size)]


def find_slices(run: Run, survey: Survey, latest: Load | None) -> Iterable[tuple[Target, Bounds]]:
    """Return the slices to read, in this order.

    Where no order is to be read, the dimensions are looked at here and now, after the orders' snapshots: two tasks for each slice that
    the warehouse has already took 0.5 of the 1.1 s of a run with nothing to do. Where there are many slices, the workers share the looking.
    """
    slices = [(target, bounds) for target in EXTRACTION for bounds in survey.slices[target.table]]
    if reads_orders(survey):
        return slices
    slices = [(target, bounds) for target, bounds in slices if not isinstance(target, Fact)]
    if len(slices) > MOST_LOOKED_AT:
        return slices
    found = compute_fingerprints(survey.slices) | {(DIM_DATE.table, EVERYTHING): calendar_fingerprint(requested_on(run))}
    return [(target, bounds) for target, bounds in slices if has_changed(run, target, bounds, latest, found[target.table, bounds])]


def has_changed(run: Run, target: Target, bounds: Bounds, latest: Load | None, fingerprint: str) -> bool:
    """Return True unless the dimension's slice is as it was last published."""
    return not fingerprint or fingerprint != known_fingerprint(run, target, bounds, latest)


def next_high_water_mark(mark: datetime | None, window: ChangeWindow | None, clock: datetime) -> datetime | None:
    """Return the mark after the run: a full run's is the sources' clock; any other moves it forward where its window left no gap."""
    if window is None:
        return clock
    if mark is None or window.start > window_from_mark(mark).start:
        return mark
    return max(mark, min(window.end or clock, clock))
