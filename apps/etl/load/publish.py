"""Clean batches into the star: one transaction that publishes everything, or nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
from django.conf import settings
from django.db import connections, transaction

from apps.etl import checks
from apps.etl.checks import Result
from apps.etl.counts import Counts, Written
from apps.etl.extract import TOUCHED, Bounds, Window
from apps.etl.fingerprints import Slice, kept_with
from apps.etl.interrupts import stoppable
from apps.etl.load import facts
from apps.etl.load.ahead import ahead
from apps.etl.load.dimensions import Dimensions
from apps.etl.load.facts import Facts, stage_touched
from apps.etl.metadata import noted
from apps.etl.session import Session, SessionName
from apps.etl.tables import DIMENSIONS, FACT_SALES, Target
from apps.warehouse.loads import Load
from techmarket.diagnosis import diagnosed
from techmarket.errors import ChecksRefused, Unbalanced
from techmarket.messages import Message, message

WAREHOUSE = "dwh"
# Any number, as long as nothing else in the warehouse uses it: only one load at a time, whoever started it.
LOCK = 7_301_015
SHOWN_CHECKS = 3  # failed checks named in the error
LOCK_TIMEOUT = "5s"


@dataclass(frozen=True)
class Order:
    """What is to be published, for which run. `batches` yields the clean batches of a table, or of TOUCHED, with the slice's bounds."""

    run_id: int
    run_uuid: UUID
    mode: str
    window: Window | None
    mark: datetime | None
    dry_run: bool
    batches: Callable[[str], Iterable[tuple[Bounds, pa.Table]]]
    counts: Mapping[str, Counts]
    rejected_ids: Mapping[str, Iterable[int]]  # by source table: rows that are still there, though not clean
    before_commit: Callable[[], AbstractContextManager[None]]  # entered before the commit, left after it
    opened: Callable[[SessionName | None], None]  # told which session of the warehouse loads
    report: Callable[[str, int], None]  # table, rows more


@dataclass
class Published:
    written: dict[str, Written] = field(default_factory=dict)
    fingerprints: dict[str, list[Slice]] = field(default_factory=dict)  # of the dimensions that were loaded
    checks: list[Result] = field(default_factory=list)
    net_by_month: dict[str, tuple[str, str]] = field(default_factory=dict)  # dry run: month -> UAH before, after


def publish(order: Order) -> Published:
    """Raises ChecksRefused where a blocking check failed; then nothing was written."""
    published = Published()
    with diagnosed(WAREHOUSE), transaction_of(order) as cursor:
        before = net_by_month(cursor) if order.dry_run else {}
        staged = load_all(order, cursor, published)
        published.checks = run_checks(order, cursor, published, staged)
        refuse(published)
        if order.dry_run:
            after = net_by_month(cursor)
            published.net_by_month = {month: (before.get(month, "0.00"), after.get(month, "0.00")) for month in sorted({*before, *after})}
            transaction.set_rollback(True, using=WAREHOUSE)
        else:
            write_load(order, published)
    return published


@contextmanager
def transaction_of(order: Order) -> Iterator[Any]:
    """The publishing transaction. `before_commit` is entered last, so that what it holds is held until the commit is done."""
    with ExitStack() as held, transaction.atomic(using=WAREHOUSE), connections[WAREHOUSE].cursor() as cursor:
        session = Session(cursor)
        order.opened(session.name)
        with stoppable(session.stop):
            if cursor.db.vendor == "postgresql":
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")  # a key of two million rows is sorted in memory
                cursor.execute("SET LOCAL jit = off")  # compiling took 10 ms, for each slice anew
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            try:
                yield cursor
            except Exception:
                session.let_go()
                raise
        held.enter_context(order.before_commit())


@dataclass
class Staged:
    """What the fact's clean batches held, by their own account, beside what was written of them."""

    written: Written
    net: int = 0
    paid: int = 0


def load_all(order: Order, cursor: Any, published: Published) -> Staged:
    """What was published of the dimensions goes to `published`. A dimension without a clean batch is as it was."""
    dimensions = Dimensions(cursor, order.run_id)
    for target in DIMENSIONS:
        load_dimension(order, dimensions, target, published)
    staged = load_facts(order, cursor, dimensions)
    published.written = dimensions.written | {FACT_SALES.table: staged.written}
    return staged


def load_dimension(order: Order, dimensions: Dimensions, target: Target, published: Published) -> None:
    rejected = order.rejected_ids.get(target.source.table, ()) if target.sources else ()
    for bounds, clean in order.batches(target.table):
        dimensions.load(target, clean, bounds, rejected)
        published.fingerprints.setdefault(target.table, []).append((*bounds, noted(clean, "fingerprint")))
        order.report(target.table, clean.num_rows)


def load_facts(order: Order, cursor: Any, dimensions: Dimensions) -> Staged:
    if order.window:
        stage_touched(cursor, [touched for _, touched in order.batches(TOUCHED)])
    loading = Facts(cursor, order.run_id, dimensions, due(order))
    staged = Staged(Written())
    if order.counts[FACT_SALES.table].loaded:  # now: while slices are prepared ahead the connection is not to be shared
        dimensions.read_keys(reference.dimension for reference in FACT_SALES.references)
    for bounds, slice in ahead((bounds, loading.prepared(clean)) for bounds, clean in order.batches(FACT_SALES.table)):
        loading.add(slice, bounds)
        staged.net += slice.net
        staged.paid += slice.paid
        order.report(FACT_SALES.table, slice.rows)
    staged.written = loading.finish()
    return staged


def due(order: Order) -> str:
    """SQL for the fact's rows that the run is to bring up to date."""
    return f"order_id IN (SELECT order_id FROM {facts.TOUCHED})" if order.window else "1 = 1"


def run_checks(order: Order, cursor: Any, published: Published, staged: Staged) -> list[Result]:
    loaded = order.counts[FACT_SALES.table].loaded
    asked: list[checks.Check] = [
        *checks.dimension_checks(published.fingerprints),
        *checks.relationships(due(order)),
        checks.fact_checks(cursor.db.vendor, due(order), loaded, staged.net, staged.paid),
        *(
            checks.Share(message("check.share_rejected"), table, count.rejected, count.read, settings.ETL_MAX_REJECTED_PERCENT)
            for table, count in order.counts.items()
        ),
        share_deleted(cursor, staged.written),
    ]
    return [*checks.balance(order.counts, published.written), *(result for check in asked for result in check.run(cursor))]


def share_deleted(cursor: Any, written: Written) -> checks.Share:
    """Of the fact as it was. Where next to nothing was deleted its rows need not be counted."""
    rows = 0
    if written.deleted >= checks.ENOUGH:
        cursor.execute("SELECT COUNT(*) FROM fact_sales")
        rows = int(cursor.fetchone()[0]) + written.deleted - written.inserted
    return checks.Share(message("check.share_deleted"), FACT_SALES.table, written.deleted, rows, settings.ETL_MAX_DELETED_PERCENT)


def refuse(published: Published) -> None:
    failed = [result for result in published.checks if result.blocking and not result.passed]
    if not failed:
        return
    named: list[Message] = [
        message("check.failed", table=result.table, name=result.name, expected=result.expected, observed=result.observed)
        for result in failed[:SHOWN_CHECKS]
    ]
    if len(failed) > SHOWN_CHECKS:
        named.append(message("check.more", count=len(failed) - SHOWN_CHECKS))
    kind = Unbalanced if any(result.name == message("check.balance") for result in failed) else ChecksRefused
    error = kind(message("checks.failed", checks=named))
    error.results = published.checks
    raise error


def write_load(order: Order, published: Published) -> None:
    before = Load.objects.order_by("-published_at").first()
    Load.objects.create(
        run_uuid=order.run_uuid,
        run_id=order.run_id,
        mode=order.mode,
        window_start=order.window.start if order.window else None,
        window_end=order.window.end if order.window else None,
        high_water_mark=order.mark,
        counts={table: written.by_name() for table, written in published.written.items()},
        fingerprints=kept_with(published.fingerprints, before.fingerprints if before else {}),
        published_at=datetime.now(UTC),
    )


def net_by_month(cursor: Any) -> dict[str, str]:
    """Net revenue in UAH by business month, YYYY-MM."""
    total = checks.money(cursor.db.vendor, "net_amount")
    cursor.execute(f"SELECT date_key / 100 AS month, {total} FROM fact_sales GROUP BY date_key / 100")
    return {f"{month // 100}-{month % 100:02}": str(net) for month, net in cursor.fetchall()}
