"""Publish the clean batches of a run in one warehouse transaction: everything, or nothing."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
from django.db import connections, transaction

from apps.etl import checks
from apps.etl.checks import Result
from apps.etl.counts import Counts, Written
from apps.etl.declarations import Fact, Target
from apps.etl.extract.fingerprints import SliceFingerprint, merge_fingerprints
from apps.etl.interrupts import interruptible
from apps.etl.load.brakes import Loaded, Rejected, apply_brakes
from apps.etl.load.dimensions import Dimensions
from apps.etl.load.facts import TOUCHED_STAGE, FactLoader, stage_touched_orders
from apps.etl.load.order_fingerprints import load_fingerprints, record_proof
from apps.etl.load.prefetch import prefetch
from apps.etl.load.revenue import Revenue, stage_unsold_orders
from apps.etl.metadata import get_metadata
from apps.etl.session import Session, SessionId
from apps.etl.slices import Bounds
from apps.etl.star import record_star, sum_dimension
from apps.etl.tables import DIMENSIONS, FACTS, ORDER_FINGERPRINTS, TARGETS, TOUCHED_ORDERS
from apps.etl.window import ChangeWindow
from apps.warehouse.loads import Load, latest_load
from apps.warehouse.own_schema import fix_schema
from techmarket.diagnosis import diagnosed
from techmarket.errors import BrakesApplied, ChecksRefused, StalePlan, Unbalanced
from techmarket.messages import Message, message

WAREHOUSE = "dwh"
# The advisory lock that admits one load of this warehouse at a time, whoever started it: any number that nothing else in the database uses.
# With the oid of etl_load in it, since a database may hold two warehouses in two schemas, and its advisory locks know no schema.
LOAD_LOCK = 7_301_015
SHOWN_CHECKS = 3  # failed checks named in the error
LOCK_TIMEOUT = "5s"


@dataclass(frozen=True)
class PublishRequest:
    """What to publish for which run. `batches` yields the batches of a table, or TOUCHED_ORDERS, with the slices' bounds."""

    run_id: int
    run_uuid: UUID
    mode: str
    window: ChangeWindow | None
    high_water_mark: datetime | None
    based_on: int  # sequence of the load that the plan has compared with, 0 for an empty warehouse
    reads_everything: bool  # otherwise the orders of TOUCHED_ORDERS
    rules: str  # digest under which all rows are read by now
    proven: Sequence[Bounds]  # orders that differ in none but those that are touched
    changed_star: Collection[int]  # segments whose facts another hand has changed
    as_of: datetime  # the sources' clock when the plan looked at them
    dry_run: bool
    batches: Callable[[str], Iterable[tuple[Bounds, pa.Table]]]
    counts: Mapping[str, Counts]
    month: str  # the present one of the shop's calendar, YYYY-MM
    accepted: bool  # a person has accepted what the brakes say
    rejected: Mapping[str, Rejected]  # by source table: what no run before has rejected
    rejected_ids: Mapping[str, Iterable[int]]  # by source table: rejected rows, which the source still has
    standing_ids: Mapping[str, Iterable[int]]  # by source table: rows that were rejected before this run
    before_commit: Callable[[], AbstractContextManager[None]]  # entered before the commit, left after it
    on_session: Callable[[SessionId | None], None]  # called with the warehouse session of the load
    now: Callable[[], datetime]  # the control database's clock, by which runs are dated, too
    report: Callable[[str, int], None]  # called with a table and the number of rows just loaded


@dataclass
class Published:
    written: dict[str, Written] = field(default_factory=dict)
    fingerprints: dict[str, list[SliceFingerprint]] = field(default_factory=dict)  # of the dimensions that were loaded
    checks: list[Result] = field(default_factory=list)
    revenues: dict[str, Revenue] = field(default_factory=dict)  # by fact


def publish(request: PublishRequest) -> Published:
    """Load, check and commit. Raises ChecksRefused where a blocking check failed or a brake was applied; then nothing was written."""
    published = Published()
    with diagnosed(WAREHOUSE), publishing_transaction(request) as cursor:
        latest = latest_load()
        refuse_stale_plan(request, latest)
        sums = load_all(request, cursor, published)
        checked = run_checks(request, cursor, published, sums)
        braked = apply_brakes(cursor, Loaded(request.counts, published.written, request.rejected, published.revenues, request.month))
        published.checks = checked + [replace(each, blocking=not (request.accepted or request.dry_run)) for each in braked]
        refuse_failed_checks(published, checked, request)
        if request.dry_run:
            transaction.set_rollback(True, using=WAREHOUSE)
        else:
            insert_load(request, published, latest)
    return published


@contextmanager
def publishing_transaction(request: PublishRequest) -> Iterator[Any]:
    """Open the transaction. `before_commit` is entered last and left after the commit, so that its locks cover the commit."""
    with ExitStack() as until_committed, transaction.atomic(using=WAREHOUSE), connections[WAREHOUSE].cursor() as cursor:
        session = Session(cursor)
        request.on_session(session.id)
        with interruptible(session.stop):
            if cursor.db.vendor == "postgresql":
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")  # sorts a key of two million rows in memory
                cursor.execute("SET LOCAL jit = off")  # compiling took 10 ms per slice
                fix_schema(cursor)
                cursor.execute("SELECT pg_advisory_xact_lock((%s::bigint << 32) + 'etl_load'::regclass::oid::bigint)", [LOAD_LOCK])
            try:
                yield cursor
            except Exception:
                session.close_if_lost()
                raise
        until_committed.enter_context(request.before_commit())


FactSums = dict[str, dict[str, int]]  # fact -> money column -> kopiykas


def load_all(request: PublishRequest, cursor: Any, published: Published) -> FactSums:
    """Load dimensions, then facts, and return the sums that the facts' batches stated. A dimension without a batch stays as it was."""
    dimensions = Dimensions(cursor, request.run_id)
    for target in DIMENSIONS:
        load_dimension(request, dimensions, target, published)
    if not request.reads_everything:
        stage_touched_orders(cursor, (touched for _, touched in request.batches(TOUCHED_ORDERS)))
    fingerprints = stage_unsold_orders(cursor, (batch for _, batch in request.batches(ORDER_FINGERPRINTS)), ORDER_FINGERPRINTS)
    load_fingerprints(cursor, fingerprints, orders_in_scope(request, "order_id"))
    sums = {fact.table: load_fact(request, cursor, dimensions, fact, published) for fact in FACTS}
    record_proof(cursor, request.proven, request.as_of)
    if request.reads_everything or request.changed_star:
        record_star(cursor, None if request.reads_everything else request.changed_star)
    record_dimensions(cursor, published)
    published.written = dimensions.written | published.written
    return sums


def load_dimension(request: PublishRequest, dimensions: Dimensions, target: Target, published: Published) -> None:
    rejected = request.rejected_ids.get(target.source.table, ()) if target.sources else ()
    for bounds, clean in request.batches(target.table):
        dimensions.load(target, clean, bounds, rejected)
        published.fingerprints.setdefault(target.table, []).append(SliceFingerprint(*bounds, get_metadata(clean, "fingerprint")))
        request.report(target.table, clean.num_rows)


def record_dimensions(cursor: Any, published: Published) -> None:
    """Add to the fingerprints of what was loaded those of the rows as they are now, inferred members of the facts among them."""
    for table, slices in published.fingerprints.items():
        published.fingerprints[table] = [
            each._replace(star=sum_dimension(cursor, TARGETS[table], (each.low, each.high))) for each in slices
        ]


def load_fact(request: PublishRequest, cursor: Any, dimensions: Dimensions, fact: Fact, published: Published) -> dict[str, int]:
    ids = (ids.get(fact.source.table, ()) for ids in (request.rejected_ids, request.standing_ids))
    loader = FactLoader(cursor, fact, request.run_id, dimensions, orders_in_scope(request, fact.sliced_by), *ids)
    if request.counts[fact.table].loaded:  # before slices are prefetched: their thread must not share this connection
        dimensions.read_keys(reference.dimension for reference in fact.references)
    sums = {each.column: 0 for each in fact.reconciliations}
    slices = ((bounds, loader.prepare(clean)) for bounds, clean in request.batches(fact.table))
    for bounds, prepared in prefetch(slices):
        loader.add(prepared, bounds)
        for column, kopiykas in prepared.kopiykas.items():
            sums[column] += kopiykas
        request.report(fact.table, prepared.rows)
    published.written[fact.table] = loader.finish()
    published.revenues[fact.table] = loader.writer.revenue
    return sums


def orders_in_scope(request: PublishRequest, column: str) -> str:
    """Return SQL for the rows that the run replaces, by their order id."""
    return "1 = 1" if request.reads_everything else f"{column} IN (SELECT order_id FROM {TOUCHED_STAGE})"


def run_checks(request: PublishRequest, cursor: Any, published: Published, sums: FactSums) -> list[Result]:
    planned = checks.dimension_checks(published.fingerprints)
    for fact in FACTS:
        scope = orders_in_scope(request, fact.sliced_by)
        rows = request.counts[fact.table].loaded
        planned += checks.relationship_checks(fact, scope)
        planned += [checks.fact_check(cursor.db.vendor, fact, scope, rows, sums[fact.table])]
    return [*checks.balance(request.counts, published.written), *(result for check in planned for result in check.run(cursor))]


def refuse_failed_checks(published: Published, checked: Sequence[Result], request: PublishRequest) -> None:
    """Raise for failed checks, which nobody can accept; or where there are none, for the brakes among `published.checks`."""
    failed = [result for result in checked if result.blocking and not result.passed]
    braked = [result for result in published.checks if result.blocking and not result.passed]
    if not braked:
        return
    if failed:
        kind = Unbalanced if any(result.name == message("check.balance") for result in failed) else ChecksRefused
        error = kind(message("checks.failed", checks=name_checks(failed)))
    else:
        error = BrakesApplied(message("brakes.applied", checks=name_checks(braked), run=request.run_id))
    error.results, error.revenues = published.checks, published.revenues
    raise error


def name_checks(failed: Sequence[Result]) -> list[Message]:
    """Return what the first checks expected and observed, and how many more there are."""
    named: list[Message] = [checks.describe_failure(result) for result in failed[:SHOWN_CHECKS]]
    if len(failed) > SHOWN_CHECKS:
        named.append(message("check.more", count=len(failed) - SHOWN_CHECKS))
    return named


def refuse_stale_plan(request: PublishRequest, latest: Load | None) -> None:
    """Raise StalePlan where another load was published since the plan. Called under the lock, so that none can follow."""
    if (latest.sequence if latest else 0) != request.based_on:
        raise StalePlan(message("plan.stale", run=latest.run_id) if latest else message("plan.warehouse_emptied"))


def insert_load(request: PublishRequest, published: Published, before: Load | None) -> None:
    Load.objects.create(
        run_uuid=request.run_uuid,
        run_id=request.run_id,
        mode=request.mode,
        window_start=request.window.start if request.window else None,
        window_end=request.window.end if request.window else None,
        high_water_mark=request.high_water_mark,
        counts={table: written.by_name() for table, written in published.written.items()},
        fingerprints=merge_fingerprints(published.fingerprints, before.fingerprints if before else {}),
        rules=request.rules,
        published_at=request.now(),
    )
