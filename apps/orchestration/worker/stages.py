"""What each stage does with one task: read what earlier tasks landed, call the ETL, return what to land.

numpy, Arrow and pandas are imported by the stages that use them, which takes half a second of CPU time: an incremental run with nothing to
do only plans and publishes its mark, and tests/test_imports.py holds it to that.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum

from apps.etl.checks import Result, warn
from apps.etl.counts import Counts, Written
from apps.etl.declarations import Fact
from apps.etl.extract.dimensions import extract_dimension
from apps.etl.load.publication import Publication, publish_mark
from apps.etl.metadata import get_metadata, set_metadata
from apps.etl.pseudonyms import NAMED_IN, pseudonymize
from apps.etl.session import SessionId, end_session
from apps.etl.slices import EVERYTHING, Bounds, inside, whole_number
from apps.etl.tables import FACT_TABLES, FACTS, ORDER_FINGERPRINTS, TARGETS, TOUCHED_ORDERS
from apps.etl.window import ChangeWindow
from apps.orchestration import clock
from apps.orchestration.batches import open_batch, read_touched_orders
from apps.orchestration.erasures import find_forgotten
from apps.orchestration.known import calendar_fingerprint, known_fingerprint, requested_on
from apps.orchestration.models import Batch, RowCount, Run, Stage, State, Task
from apps.orchestration.planning import Plan, plan_run
from apps.orchestration.prepared import drop_all_prepared, drop_prepared_of, losses_named, refuse_lost_tables, space_given_back
from apps.orchestration.standing import standing_rejects
from apps.warehouse.loads import Load, latest_load
from techmarket.connections import close_dead_connections
from techmarket.diagnosis import diagnosed
from techmarket.errors import BatchesLost, ClaimLost
from techmarket.messages import Message, message

if TYPE_CHECKING:
    import pyarrow as pa

    from apps.etl.load.brakes import Rejected
    from apps.etl.load.revenue import Revenue
    from apps.etl.transform.rows import RejectedRow

COMMIT_TIMEOUT_S = 60  # that a commit of the warehouse may take
READ_COUNTS = ("read", "loaded", "filtered", "rejected")
Report = Callable[[str, int], None]  # table, how many rows more


@dataclass
class Landed:
    """What a task leaves in the ledger: batches by name, counts by table, rejects, check results; a plan, or revenue by fact.

    `is_unchanged`: the warehouse has the slice already, so that there is nothing to transform.
    """

    batches: "dict[str, pa.Table]" = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)
    rejects: "Sequence[RejectedRow]" = ()
    checks: Sequence[Result] = ()
    plan: Plan | None = None
    revenues: "dict[str, Revenue]" = field(default_factory=dict)
    is_unchanged: bool = False


def plan_stage(task: Task, report: Report) -> Landed:
    plan = plan_run(task.run)
    drop_all_prepared()
    return Landed(batch_orders(plan.orders), checks=plan.warnings, plan=plan)


def batch_orders(ids: Any) -> "dict[str, pa.Table]":
    """Return the batch of the ids of the orders that the run reads; none where it reads all or none."""
    if ids is None or not len(ids):
        return {}
    import pyarrow as pa

    return {TOUCHED_ORDERS: pa.table({"order_id": pa.array(ids, pa.int64())})}


def refuse_lost_batches(task: Task) -> None:
    """Raise BatchesLost where the batches of earlier tasks are gone: a transform would take that for rows that have not changed."""
    if task.has_lost_batches:
        raise BatchesLost


def extract_stage(task: Task, report: Report) -> Landed:
    refuse_lost_batches(task)
    target = TARGETS[task.subject]
    if isinstance(target, Fact):
        from apps.etl.extract.facts import extract_fact

        batches = extract_fact(target, (task.low, task.high), touched_orders(task))
    else:
        batches = hide_forgotten(extract_dimension(target, (task.low, task.high), known_source(task)))
    report(task.subject, sum(batch.num_rows for batch in batches.values()))
    return Landed(batches=batches, is_unchanged=not batches)


def hide_forgotten(batches: "dict[str, pa.Table]") -> "dict[str, pa.Table]":
    """Return the batches with pseudonyms for the customers who are forgotten, whatever the source still says of them."""
    if not batches.keys() & NAMED_IN.keys():
        return batches
    forgotten = find_forgotten()
    return {name: pseudonymize(name, batch, forgotten) for name, batch in batches.items()}


def touched_orders(task: Task) -> Any:
    """Return the ids of the slice's orders that the run touches; None where it reads every order."""
    if task.run.reads_everything:
        return None
    ids = read_touched_orders(task.run)
    return ids[inside(ids, (task.low, task.high))]


def transform_stage(task: Task, report: Report) -> Landed:
    from apps.etl.transform.registry import transform

    refuse_lost_batches(task)
    raw = {batch.name: open_batch(batch) for batch in batches_of(task)}
    found = fingerprint_of(task, raw, requested_on(task.run))
    if found is None or (found and found == known_source(task)):
        return Landed()  # the warehouse has these rows already
    outcome = transform(task.subject, raw, settings.SHOP_TIME_ZONE, requested_on(task.run))
    report(task.subject, outcome.counts[task.subject].read)
    warnings = [warn(check_name(code, task), rows.table, rows.ids, rows.amount) for code, rows in outcome.warnings.items()]
    batches = {outcome.table: set_metadata(outcome.clean, fingerprint=found)}
    if outcome.fingerprints is not None:
        batches[ORDER_FINGERPRINTS] = outcome.fingerprints
    return Landed(batches, outcome.counts, rejects=outcome.rejects, checks=warnings)


def check_name(code: str, task: Task) -> Message:
    """Return the name of a check of the transform, with the slice where the table has several."""
    return message(f"{code}_slice", slice=task.slice) if task.slice else message(code)


def fingerprint_of(task: Task, raw: "dict[str, pa.Table]", today: date) -> str | None:
    """Return None where the extract found the known fingerprint. The calendar has no source; it grows with the year."""
    sources = TARGETS[task.subject].sources
    if not sources:
        return calendar_fingerprint(today)
    return get_metadata(raw[sources[0].table], "fingerprint") if raw else None


def known_source(task: Task) -> str:
    return known_fingerprint(task.run, TARGETS[task.subject], (task.low, task.high), latest_load())


def batches_of(task: Task) -> list[Batch]:
    """Return the raw batches that this transform's extract landed, without their bodies."""
    extract = Task.objects.filter(run=task.run_id, stage=Stage.EXTRACT, subject=task.subject, low=task.low)
    return list(Batch.objects.filter(task__in=extract).defer("body"))


def prepare_stage(task: Task, report: Report) -> Landed:
    """Bring a range of orders to the warehouse, where no reader looks. A session of a dead worker's attempt is ended first."""
    from apps.etl.load.prepare import PrepareRequest, prepare

    run, bounds = task.run, (task.low, task.high)
    fact = next(fact for fact in FACTS if fact.table == task.subject)
    refuse_lost_batches(task)
    with diagnosed("dwh"):
        end_session(task.session)
    request = PrepareRequest(
        run_id=run.pk,
        run_uuid=run.uuid,
        fact=fact,
        bounds=bounds,
        is_new=fact.table in run.found["new"],
        reads_everything=run.reads_everything,
        batches=partial(clean_batches, run, bounds),
        before_commit=partial(hold_claim, task),
        on_session=partial(record_session, task),
        report=report,
    )
    with space_given_back(run):
        prepare(request)
    return Landed()


def load_stage(task: Task, report: Report) -> Landed:
    run = task.run
    with diagnosed("dwh"):
        load = Load.objects.filter(run_uuid=run.uuid).first()
    if load:  # an earlier attempt committed, and the connection broke before the answer
        return Landed(written={table: read_written(counts) for table, counts in load.counts.items()})
    publication = Publication(
        run_id=run.pk,
        run_uuid=run.uuid,
        mode=run.mode,
        window=ChangeWindow(run.window_start, run.window_end) if run.window_start else None,
        high_water_mark=run.high_water_mark,
        based_on=run.based_on or 0,
        rules=run.found["rules"],
        proven=[EVERYTHING] if run.reads_everything else run.found["proven"],
        as_of=datetime.fromisoformat(run.found["as_of"]),
        dry_run=run.dry_run,
        before_commit=partial(hold_claim, task, is_publication=True),
        on_session=partial(record_session, task),
        now=clock.now,
    )
    if not run.tasks.exclude(stage__in=(Stage.PLAN, Stage.LOAD)).exists():
        written, results = publish_mark(publication)
        return Landed(written=written, checks=results)
    return publish_batches(task, publication, report)


def publish_batches(task: Task, publication: Publication, report: Report) -> Landed:
    from apps.etl.load.publish import PublishRequest, publish
    from apps.orchestration.moved import refuse_moved_rows

    run = task.run
    refuse_lost_batches(task)
    refuse_moved_rows(run)
    refuse_lost_tables(run)
    request = PublishRequest(
        **vars(publication),
        reads_everything=run.reads_everything,
        changed_star=run.found.get("changed_star", ()),
        is_prepared=run.found.get("prepared", False),  # a run that an older version has planned prepares nothing
        month=f"{requested_on(run):%Y-%m}",
        accepted=bool(run.accepted_by),
        batches=partial(clean_batches, run, EVERYTHING),
        counts=sum_counts(run),
        rejected=sum_new_rejects(run),
        rejected_ids=row_ids(run.rejects.all()),
        standing_ids=row_ids(standing_rejects()),
        report=report,
    )
    with space_given_back(run), losses_named(run):
        published = publish(request)
    if run.dry_run:
        drop_prepared_of(run)
    return Landed(written=published.written, checks=published.checks, revenues=published.revenues)


def read_written(counts: dict[str, int]) -> Written:
    """Return the counts that etl_load stores for one table."""
    staged = counts["inserted"] + counts["updated"] + counts["unchanged"]
    return Written(staged, counts["inserted"], counts["updated"], counts["deleted"], counts["derived"])


STAGES: dict[str, Callable[[Task, Report], Landed]] = {
    Stage.PLAN: plan_stage,
    Stage.EXTRACT: extract_stage,
    Stage.TRANSFORM: transform_stage,
    Stage.PREPARE: prepare_stage,
    Stage.LOAD: load_stage,
}


def clean_batches(run: Run, bounds: Bounds, name: str) -> "Iterator[tuple[Bounds, pa.Table]]":
    """Yield one batch after another, so that the memory of a load does not grow with the shop. `bounds`: of a fact's batches."""
    in_order = run.batches.filter(within_slices(bounds), name=name) if name in FACT_TABLES else run.batches.filter(name=name)
    in_order = in_order.order_by(F("task__low").asc(nulls_first=True))
    for number in list(in_order.values_list("pk", flat=True)):
        with diagnosed("default"):
            batch = Batch.objects.select_related("task").defer("body").get(pk=number)
            clean = open_batch(batch)
        yield (batch.task.low, batch.task.high), clean


def within_slices(bounds: Bounds) -> Q:
    """Return the condition for batches of slices that lie within `bounds`, which begin and end where slices do."""
    low, high = bounds
    first = Q() if low is None else Q(task__low__gte=low)
    return first & (Q() if high is None else Q(task__high__lte=high))


def sum_counts(run: Run) -> dict[str, Counts]:
    """Return what the transforms counted, by table over all slices."""
    sums = RowCount.objects.filter(run=run, task__stage=Stage.TRANSFORM).values("table").order_by("table")
    rows = sums.annotate(*(Sum(name) for name in READ_COUNTS)).values_list("table", *(f"{name}__sum" for name in READ_COUNTS))
    return {table: Counts() for table in FACT_TABLES if run.reads_nothing} | {table: Counts(*numbers) for table, *numbers in rows}


def row_ids(rejects: "QuerySet[Any]") -> dict[str, set[int]]:
    """Return the ids of the rejected rows by source table, of those tables whose rows become rows of the warehouse."""
    tables = [target.source.table for target in TARGETS.values() if target.sources]
    found = defaultdict(set)
    for table, row_id in rejects.filter(table__in=tables).order_by().values_list("table", "row_id"):
        found[table].add(whole_number(row_id))
    return dict(found)


def sum_new_rejects(run: Run) -> "dict[str, Rejected]":
    """Return rows and UAH by source table of what this run rejects and none before it did."""
    from apps.etl.load.brakes import Rejected

    known = standing_rejects().filter(table=OuterRef("table"), row_id=OuterRef("row_id"))
    rows = run.rejects.exclude(Exists(known)).order_by().values("table").annotate(rows=Count("row_id", distinct=True), uah=Sum("amount"))
    return {row["table"]: Rejected(row["rows"], row["uah"] or Decimal()) for row in rows}


def record_session(task: Task, name: SessionId | None) -> None:
    """Record the warehouse session for the reaper: one whose worker is gone may hold its locks for ever."""
    task.session = name
    Task.objects.filter(pk=task.pk, claim=task.claim).update(session=name)


@contextmanager
def hold_claim(task: Task, is_publication: bool = False) -> Iterator[None]:
    """Lock the task's row while the warehouse commits: others wait, and a worker that lost the claim cannot commit. Raises ClaimLost.

    That the commit of a publication begins is recorded first: from then on only the warehouse knows whether the run was published.
    """
    close_dead_connections()  # the ledger's was idle during the load
    if is_publication:
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
