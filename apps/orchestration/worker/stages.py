"""What each stage does with one task: read what earlier tasks landed, call the ETL, return what to land."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from django.conf import settings
from django.db import connections, transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum

from apps.etl.checks import Result, warn
from apps.etl.counts import Counts, Written
from apps.etl.declarations import Fact
from apps.etl.extract.dimensions import extract_dimension
from apps.etl.extract.facts import extract_fact
from apps.etl.extract.fingerprints import find_fingerprint
from apps.etl.extract.sweep import in_warehouse
from apps.etl.load import PublishRequest, publish
from apps.etl.load.brakes import Rejected
from apps.etl.load.revenue import Revenue
from apps.etl.metadata import get_metadata, set_metadata
from apps.etl.session import SessionId
from apps.etl.slices import EVERYTHING, Bounds, inside, whole_number
from apps.etl.star import sum_dimension
from apps.etl.tables import ORDER_FINGERPRINTS, TARGETS, TOUCHED_ORDERS
from apps.etl.transform.registry import transform
from apps.etl.transform.rows import RejectedRow
from apps.etl.window import ChangeWindow
from apps.orchestration import clock
from apps.orchestration.batches import open_batch, read_touched_orders
from apps.orchestration.models import Batch, Mode, RowCount, Run, Stage, State, Task
from apps.orchestration.moved import refuse_moved_rows
from apps.orchestration.planning import Plan, plan_run
from apps.orchestration.standing import standing_rejects
from apps.warehouse.loads import Load, latest_load
from techmarket.connections import close_dead_connections
from techmarket.diagnosis import diagnosed
from techmarket.errors import BatchesLost, ClaimLost
from techmarket.messages import Message, message

COMMIT_TIMEOUT_S = 60  # that a commit of the warehouse may take
READ_COUNTS = ("read", "loaded", "filtered", "rejected")
Report = Callable[[str, int], None]  # table, how many rows more


@dataclass
class Landed:
    """What a task leaves in the ledger: batches by name, counts by table, rejects, check results; a plan, or revenue by fact."""

    batches: dict[str, pa.Table] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)
    rejects: Sequence[RejectedRow] = ()
    checks: Sequence[Result] = ()
    plan: Plan | None = None
    revenues: dict[str, Revenue] = field(default_factory=dict)


def plan_stage(task: Task, report: Report) -> Landed:
    plan = plan_run(task.run)
    batches = {} if plan.orders is None else {TOUCHED_ORDERS: pa.table({"order_id": plan.orders})}
    return Landed(batches, checks=plan.warnings, plan=plan)


def refuse_lost_batches(run: Run) -> None:
    """Raise BatchesLost where the batches of earlier tasks are gone: a transform would take that for rows that have not changed."""
    if run.has_lost_batches:
        raise BatchesLost


def extract_stage(task: Task, report: Report) -> Landed:
    refuse_lost_batches(task.run)
    target = TARGETS[task.subject]
    if isinstance(target, Fact):
        batches = extract_fact(target, (task.low, task.high), touched_orders(task))
    else:
        batches = extract_dimension(target, (task.low, task.high), known_fingerprint(task))
    report(task.subject, sum(batch.num_rows for batch in batches.values()))
    return Landed(batches=batches)


def touched_orders(task: Task) -> Any:
    """Return the ids of the slice's orders that the run touches; None where it reads every order."""
    if task.run.reads_everything:
        return None
    ids = read_touched_orders(task.run)
    return ids[inside(ids, (task.low, task.high))]


def transform_stage(task: Task, report: Report) -> Landed:
    refuse_lost_batches(task.run)
    raw = {batch.name: open_batch(batch) for batch in batches_of(task)}
    found = fingerprint_of(task, raw, requested_on(task.run))
    if found is None or (found and found == known_fingerprint(task)):
        return Landed()  # the warehouse has these rows already
    outcome = transform(task.subject, raw, settings.SHOP_TIME_ZONE, requested_on(task.run))
    report(task.subject, outcome.counts[task.subject].read)
    warnings = [warn(check_name(code, task), rows.table, rows.ids, rows.amount) for code, rows in outcome.warnings.items()]
    batches = {outcome.table: set_metadata(outcome.clean, fingerprint=found)}
    if outcome.fingerprints is not None:
        batches[ORDER_FINGERPRINTS] = outcome.fingerprints
    return Landed(batches, outcome.counts, rejects=outcome.rejects, checks=warnings)


def requested_on(run: Run) -> date:
    """Return the day of the shop's calendar on which the run was requested."""
    return run.created_at.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE)).date()


def check_name(code: str, task: Task) -> Message:
    """Return the name of a check of the transform, with the slice where the table has several."""
    return message(f"{code}_slice", slice=task.slice) if task.slice else message(code)


def fingerprint_of(task: Task, raw: dict[str, pa.Table], today: date) -> str | None:
    """Return None where the extract found the known fingerprint. The calendar has no source; it grows with the year."""
    sources = TARGETS[task.subject].sources
    if not sources:
        return f"calendar of {today.year}"
    return get_metadata(raw[sources[0].table], "fingerprint") if raw else None


def known_fingerprint(task: Task) -> str:
    """Return the slice's fingerprint when it was last published: with the same one it is not read again.

    A full run reads it also where another hand has changed it in the warehouse.
    """
    latest, bounds = latest_load(), (task.low, task.high)
    known = find_fingerprint(latest.fingerprints, task.subject, bounds) if latest else None
    if not known or task.run.reads_everything:
        return ""
    if task.run.mode == Mode.FULL and known.star != in_warehouse(sum_dimension, TARGETS[task.subject], bounds):
        return ""
    return known.source


def batches_of(task: Task) -> list[Batch]:
    """Return the raw batches that this transform's extract landed, without their bodies."""
    extract = Task.objects.filter(run=task.run_id, stage=Stage.EXTRACT, subject=task.subject, low=task.low)
    return list(Batch.objects.filter(task__in=extract).defer("body"))


def load_stage(task: Task, report: Report) -> Landed:
    run = task.run
    with diagnosed("dwh"):
        load = Load.objects.filter(run_uuid=run.uuid).first()
    if load:  # an earlier attempt committed, and the connection broke before the answer
        return Landed(written={table: read_written(counts) for table, counts in load.counts.items()})
    refuse_lost_batches(run)
    refuse_moved_rows(run)
    published = publish(
        PublishRequest(
            run_id=run.pk,
            run_uuid=run.uuid,
            mode=run.mode,
            window=ChangeWindow(run.window_start, run.window_end) if run.window_start else None,
            high_water_mark=run.high_water_mark,
            based_on=run.based_on or 0,
            reads_everything=run.reads_everything,
            rules=run.found["rules"],
            proven=[EVERYTHING] if run.reads_everything else run.found["proven"],
            changed_star=run.found.get("changed_star", ()),
            as_of=datetime.fromisoformat(run.found["as_of"]),
            dry_run=run.dry_run,
            month=f"{requested_on(run):%Y-%m}",
            accepted=bool(run.accepted_by),
            batches=partial(clean_batches, run),
            counts=sum_counts(run),
            rejected=sum_new_rejects(run),
            rejected_ids=row_ids(run.rejects.all()),
            standing_ids=row_ids(standing_rejects()),
            before_commit=partial(hold_claim, task),
            on_session=partial(record_session, task),
            now=clock.now,
            report=report,
        )
    )
    return Landed(written=published.written, checks=published.checks, revenues=published.revenues)


def read_written(counts: dict[str, int]) -> Written:
    """Return the counts that etl_load stores for one table."""
    staged = counts["inserted"] + counts["updated"] + counts["unchanged"]
    return Written(staged, counts["inserted"], counts["updated"], counts["deleted"], counts["derived"])


STAGES: dict[str, Callable[[Task, Report], Landed]] = {
    Stage.PLAN: plan_stage,
    Stage.EXTRACT: extract_stage,
    Stage.TRANSFORM: transform_stage,
    Stage.LOAD: load_stage,
}


def clean_batches(run: Run, name: str) -> Iterator[tuple[Bounds, pa.Table]]:
    """Yield one batch after another, so that the memory of a load does not grow with the shop."""
    in_order = run.batches.filter(name=name).order_by(F("task__low").asc(nulls_first=True))
    for number in list(in_order.values_list("pk", flat=True)):
        with diagnosed("default"):
            batch = Batch.objects.select_related("task").defer("body").get(pk=number)
            clean = open_batch(batch)
        yield (batch.task.low, batch.task.high), clean


def sum_counts(run: Run) -> dict[str, Counts]:
    """Return what the transforms counted, by table over all slices."""
    sums = RowCount.objects.filter(run=run, task__stage=Stage.TRANSFORM).values("table").order_by("table")
    rows = sums.annotate(*(Sum(name) for name in READ_COUNTS)).values_list("table", *(f"{name}__sum" for name in READ_COUNTS))
    return {table: Counts(*numbers) for table, *numbers in rows}


def row_ids(rejects: "QuerySet[Any]") -> dict[str, set[int]]:
    """Return the ids of the rejected rows by source table, of those tables whose rows become rows of the warehouse."""
    tables = [target.source.table for target in TARGETS.values() if target.sources]
    found = defaultdict(set)
    for table, row_id in rejects.filter(table__in=tables).order_by().values_list("table", "row_id"):
        found[table].add(whole_number(row_id))
    return dict(found)


def sum_new_rejects(run: Run) -> dict[str, Rejected]:
    """Return rows and UAH by source table of what this run rejects and none before it did."""
    known = standing_rejects().filter(table=OuterRef("table"), row_id=OuterRef("row_id"))
    rows = run.rejects.exclude(Exists(known)).order_by().values("table").annotate(rows=Count("row_id", distinct=True), uah=Sum("amount"))
    return {row["table"]: Rejected(row["rows"], row["uah"] or Decimal()) for row in rows}


def record_session(task: Task, name: SessionId | None) -> None:
    """Record the warehouse session for the reaper: one whose worker is gone may hold its locks for ever."""
    task.session = name
    Task.objects.filter(pk=task.pk, claim=task.claim).update(session=name)


@contextmanager
def hold_claim(task: Task) -> Iterator[None]:
    """Lock the task's row while the warehouse commits: others wait, and a worker that lost the claim cannot commit. Raises ClaimLost.

    That the commit begins is recorded first: from then on only the warehouse knows whether the run was published.
    """
    close_dead_connections()  # the ledger's was idle during the load
    Task.objects.filter(pk=task.pk, claim=task.claim).update(session=(task.session or {}) | {"committing": True})
    with transaction.atomic(), connections["default"].cursor() as cursor:
        if cursor.db.vendor == "postgresql":  # a worker that is stopped or cut off here must not block the reaper for ever
            cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [f"{COMMIT_TIMEOUT_S}s"])
        held = Task.objects.select_for_update(of=("self",)).filter(
            pk=task.pk, claim=task.claim, state=State.RUNNING, run__state=State.RUNNING, run__cancelled_by=""
        )
        if not held.values_list("pk"):
            raise ClaimLost
        yield
