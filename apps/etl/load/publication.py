"""The publishing transaction of the warehouse, and a run's row in etl_load, without which nothing of it is there.

Without numpy and Arrow, which a run that has no rows to write does without.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.etl.checks import Result, name_failures, relationship_checks
from apps.etl.counts import Written
from apps.etl.extract.fingerprints import SliceFingerprint, merge_fingerprints
from apps.etl.load.session import BeforeCommit, OnSession, warehouse_session, warehouse_transaction
from apps.etl.slices import Bounds
from apps.etl.tables import FACTS, TARGETS
from apps.etl.warehouse import WAREHOUSE
from apps.etl.window import ChangeWindow
from apps.warehouse.loads import Load, latest_load
from techmarket.diagnosis import diagnosed
from techmarket.errors import ChecksRefused, StalePlan
from techmarket.messages import message

# The advisory lock that admits one load of this warehouse at a time, whoever started it: any number that nothing else in the database uses.
# With the oid of etl_load in it, since a database may hold two warehouses in two schemas, and its advisory locks know no schema.
LOAD_LOCK = 7_301_015

LoadedSlices = Mapping[str, Iterable[SliceFingerprint]]  # by dimension


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Which run is published, and what its plan was based on."""

    run_id: int
    run_uuid: UUID
    mode: str
    window: ChangeWindow | None
    high_water_mark: datetime | None
    based_on: int  # sequence of the load that the plan has compared with, 0 for an empty warehouse
    rules: str  # digest under which all rows are read by now
    proven: Sequence[Bounds]  # orders that differ in none but those that are touched
    as_of: datetime  # the sources' clock when the plan looked at them
    dry_run: bool
    before_commit: BeforeCommit
    on_session: OnSession
    now: Callable[[], datetime]  # the control database's clock, by which runs are dated, too


def publish_mark(publication: Publication) -> tuple[dict[str, Written], list[Result]]:
    """Publish a run that has no rows to write: its mark, and what it has proven. Return counts of nothing, and what the checks say.

    Through `publish` it took 0.15 s and some 60 statements on empty tables, and as long again for the imports.
    """
    written = {table: Written() for table in TARGETS}
    with (
        diagnosed(WAREHOUSE),
        warehouse_session(publication.on_session) as cursor,
        warehouse_transaction(cursor, publication.before_commit),
    ):
        lock_warehouse(cursor)
        latest = latest_load()
        refuse_stale_plan(publication, latest)
        results = [result for fact in FACTS for check in relationship_checks(fact, "1 = 0") for result in check.run(cursor)]
        if failed := [result for result in results if not result.passed]:
            error = ChecksRefused(message("checks.failed", checks=name_failures(failed)))
            error.results = results
            raise error
        if publication.proven:
            from apps.etl.load.order_fingerprints import record_proof  # of a sweep, which has imported numpy

            record_proof(cursor, publication.proven, publication.as_of)
        if publication.dry_run:
            transaction.set_rollback(True, using=WAREHOUSE)
        else:
            insert_load(publication, written, {}, latest)
    return written, results


def lock_warehouse(cursor: Any) -> None:
    if cursor.db.vendor == "postgresql":
        cursor.execute("SELECT pg_advisory_xact_lock((%s::bigint << 32) + 'etl_load'::regclass::oid::bigint)", [LOAD_LOCK])


def refuse_stale_plan(publication: Publication, latest: Load | None) -> None:
    """Raise StalePlan where another load was published since the plan. Called under the lock, so that none can follow."""
    if (latest.sequence if latest else 0) != publication.based_on:
        raise StalePlan(message("plan.stale", run=latest.run_id) if latest else message("plan.warehouse_emptied"))


def insert_load(publication: Publication, written: Mapping[str, Written], fingerprints: LoadedSlices, before: Load | None) -> None:
    Load.objects.create(
        run_uuid=publication.run_uuid,
        run_id=publication.run_id,
        mode=publication.mode,
        window_start=publication.window.start if publication.window else None,
        window_end=publication.window.end if publication.window else None,
        high_water_mark=publication.high_water_mark,
        counts={table: counts.by_name() for table, counts in written.items()},
        fingerprints=merge_fingerprints(fingerprints, before.fingerprints if before else {}),
        rules=publication.rules,
        published_at=publication.now(),
    )
