"""Prepare one range of orders of a fact: all that is heavy, in a transaction of its own, where no reader looks.

A fact without rows gets a partition, filled and indexed; one that has rows is compared, and only what differs is left in a table.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from apps.etl import checks
from apps.etl.declarations import Fact
from apps.etl.load.dimensions import find_missing_years
from apps.etl.load.fact_build import PartitionBuild
from apps.etl.load.fact_changes import FactChanges
from apps.etl.load.facts import Batches, FactRows
from apps.etl.load.keys import DimensionKeys
from apps.etl.load.prepared import Findings, PreparedSlice
from apps.etl.load.relations import find_free_name
from apps.etl.load.session import BeforeCommit, OnSession, warehouse_session, warehouse_transaction
from apps.etl.load.touched import in_scope, looked_up_in, stage_touched_orders
from apps.etl.slices import Bounds
from apps.etl.tables import DIM_DATE, DIMENSIONS, TOUCHED_ORDERS
from apps.etl.warehouse import WAREHOUSE
from apps.warehouse.prepared import Prepared, drop_prepared
from techmarket.diagnosis import diagnosed

Report = Callable[[str, int], None]  # a table, and the number of its rows that were just prepared or loaded


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare for which run. `batches` yields the clean batches of a table; of the fact, those within `bounds`."""

    run_id: int
    run_uuid: UUID
    fact: Fact
    bounds: Bounds
    is_new: bool  # the fact had no rows when the run was planned
    reads_everything: bool  # otherwise the orders of TOUCHED_ORDERS
    batches: Batches
    before_commit: BeforeCommit
    on_session: OnSession
    report: Report


def prepare(request: PrepareRequest) -> None:
    """Prepare and commit. What an earlier attempt has left of the same range is replaced."""
    with diagnosed(WAREHOUSE), warehouse_session(request.on_session) as cursor:
        with warehouse_transaction(cursor):  # one of its own: other workers see at once which keys it reserves
            rows = FactRows(cursor, request.fact, read_keys(cursor, request.batches), request.batches, ahead=True)
        with warehouse_transaction(cursor, request.before_commit):
            drop_prepared(Prepared.objects.filter(run_uuid=request.run_uuid, fact=request.fact.table, low=request.bounds[0]))
            relation = find_free_name(cursor, name_relation(request))
            findings = (build_partition if request.is_new else find_changes)(request, cursor, rows, relation)
            Prepared.objects.create(
                run_uuid=request.run_uuid,
                run_id=request.run_id,
                fact=request.fact.table,
                low=request.bounds[0],
                high=request.bounds[1],
                relation=relation,
                is_partition=request.is_new,
                findings=findings.to_json(),
            )


def read_keys(cursor: Any, batches: Batches) -> DimensionKeys:
    """Return the dimensions' keys, with those of the members that the run is going to publish."""
    keys = DimensionKeys(cursor)
    for target in DIMENSIONS:
        for _bounds, clean in batches(target.table) if target is not DIM_DATE else ():
            keys.expect(target.table, clean[target.natural].to_numpy().astype(np.int64))
    return keys


def name_relation(request: PrepareRequest) -> str:
    """Return a name that tells what becomes a partition from what is dropped soon, which a dump can leave out."""
    low = "first" if request.bounds[0] is None else str(request.bounds[0]).replace("-", "m")
    prefix = request.fact.table if request.is_new else f"etl_prepared_{request.fact.table}"
    return f"{prefix}_{request.run_id}_{low}"


def build_partition(request: PrepareRequest, cursor: Any, rows: FactRows, relation: str) -> Findings:
    """Fill a partition, index and check it."""
    build = PartitionBuild(cursor, request.fact, request.run_id, relation)
    findings = count_slices(build.fill(rows.convert_all(request.batches(request.fact.table), build.complete)), request.fact, request.report)
    build.finish(request.bounds, has_members=not rows.keys.has_reserved and not find_missing_years(cursor, findings.inferred.years))
    check = checks.fact_check(cursor.db.vendor, request.fact, "1 = 1", findings.rows, findings.kopiykas)
    findings.numbers = check.measure(cursor, relation)
    findings.segments = build.segments()
    findings.months = build.months.sums
    return findings


def find_changes(request: PrepareRequest, cursor: Any, rows: FactRows, relation: str) -> Findings:
    """Compare the range with the fact and leave what differs in a table."""
    if not request.reads_everything:
        stage_touched_orders(cursor, (touched for _, touched in request.batches(TOUCHED_ORDERS)))
    changes = FactChanges(cursor, request.fact, relation)
    changes.create_logged()
    return collect_changes(changes, rows, request.batches(request.fact.table), request.reads_everything, request.report)


def collect_changes(
    changes: FactChanges, rows: FactRows, slices: Iterable[tuple[Bounds, pa.Table]], reads_everything: bool, report: Report
) -> Findings:
    """Add what differs in the slices to the changed table."""
    scope = in_scope(reads_everything, changes.fact.sliced_by)
    with looked_up_in(changes.fact.table, changes.cursor, reads_everything):
        findings = count_slices(changes.collect(rows.convert_all(slices), scope), changes.fact, report)
    findings.differing = changes.rows
    return findings


def count_slices(slices: Generator[PreparedSlice], fact: Fact, report: Report) -> Findings:
    findings = Findings(kopiykas={each.column: 0 for each in fact.reconciliations})
    with closing(slices):
        for prepared in slices:
            findings.count(prepared)
            report(fact.table, prepared.rows)
    return findings
