"""Publish the clean batches of a run in one warehouse transaction: everything, or nothing."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction
from django.db.models import F

from apps.etl import checks
from apps.etl.checks import SHOWN_IDS, Result
from apps.etl.counts import Counts, Written
from apps.etl.declarations import Fact, Target
from apps.etl.extract.fingerprints import SliceFingerprint
from apps.etl.load.brakes import Loaded, Rejected, apply_brakes
from apps.etl.load.dimensions import Dimensions
from apps.etl.load.fact_build import FactBuild
from apps.etl.load.fact_changes import FactChanges
from apps.etl.load.fact_merge import FactMerge
from apps.etl.load.facts import Batches, FactRows
from apps.etl.load.keys import DimensionKeys
from apps.etl.load.order_fingerprints import OrderFingerprints, record_proof
from apps.etl.load.prepare import Report, collect_changes
from apps.etl.load.prepared import Findings, add_up
from apps.etl.load.products import update_product_columns
from apps.etl.load.publication import Publication, insert_load, lock_warehouse, refuse_stale_plan
from apps.etl.load.revenue import Revenue, stage_unsold_orders
from apps.etl.load.session import lock_from_readers, warehouse_session, warehouse_transaction
from apps.etl.load.touched import in_scope, looked_up_in, stage_touched_orders
from apps.etl.metadata import get_metadata
from apps.etl.star import clear_star, record_star, sum_dimension
from apps.etl.tables import DIMENSIONS, FACTS, ORDER_FINGERPRINTS, TARGETS, TOUCHED_ORDERS
from apps.etl.warehouse import WAREHOUSE
from apps.warehouse.loads import latest_load
from apps.warehouse.prepared import Prepared, drop_prepared, forget_prepared, lock_free
from techmarket.diagnosis import diagnosed
from techmarket.errors import BrakesApplied, ChecksRefused, PreparedLost, Unbalanced
from techmarket.messages import message


@dataclass(frozen=True, kw_only=True)
class PublishRequest(Publication):
    """What to publish besides the mark. `batches` yields the batches of a table, or TOUCHED_ORDERS, with the slices' bounds."""

    reads_everything: bool  # otherwise the orders of TOUCHED_ORDERS
    changed_star: Collection[int]  # segments whose facts another hand has changed
    is_prepared: bool  # the differences of the facts are in prepared tables; otherwise they are found here
    batches: Batches
    counts: Mapping[str, Counts]
    month: str  # the present one of the shop's calendar, YYYY-MM
    accepted: bool  # a person has accepted what the brakes say
    rejected: Mapping[str, Rejected]  # by source table: what no run before has rejected
    rejected_ids: Mapping[str, Iterable[int]]  # by source table: rejected rows, which the source still has
    standing_ids: Mapping[str, Iterable[int]]  # by source table: rows that were rejected before this run
    report: Report


@dataclass
class Published:
    written: dict[str, Written] = field(default_factory=dict)
    fingerprints: dict[str, list[SliceFingerprint]] = field(default_factory=dict)  # of the dimensions that were loaded
    checks: list[Result] = field(default_factory=list)
    revenues: dict[str, Revenue] = field(default_factory=dict)  # by fact


def publish(request: PublishRequest) -> Published:
    """Load, check and commit. Raises ChecksRefused where a blocking check failed or a brake was applied; then nothing was written.

    What is only read or staged comes first, in a transaction that locks nothing of the star. Constraints on days are given up in one of
    their own: readers are locked out of a partition for that alone, not for all that follows. A dry run gives them up and has them back.
    """
    published = Published()
    with diagnosed(WAREHOUSE), warehouse_session(request.on_session) as cursor:
        with warehouse_transaction(cursor):
            refuse_stale_plan(request, latest_load())
            work = stage_all(request, cursor, published)
        if not request.dry_run:
            for merge in work.out_of_days:
                with warehouse_transaction(cursor):
                    merge.give_up_days()
        with warehouse_transaction(cursor, request.before_commit):
            lock_warehouse(cursor)
            latest = latest_load()
            refuse_stale_plan(request, latest)
            hold_prepared(work.prepared)
            write_all(request, cursor, work, published)
            checked = run_checks(request, cursor, work, published)
            braked = apply_brakes(cursor, Loaded(request.counts, published.written, request.rejected, published.revenues, request.month))
            published.checks = checked + [replace(each, blocking=not (request.accepted or request.dry_run)) for each in braked]
            refuse_failed_checks(published, checked, request)
            if request.dry_run:
                transaction.set_rollback(True, using=WAREHOUSE)
            else:
                insert_load(request, published.written, published.fingerprints, latest)
                work.swap_in(cursor)
    return published


@dataclass
class Work:
    """What is staged, to be written in the publishing transaction."""

    dimensions: Dimensions
    fingerprints: OrderFingerprints
    facts: dict[str, FactBuild | FactMerge] = field(default_factory=dict)
    findings: dict[str, Findings] = field(default_factory=dict)
    prepared: list[Prepared] = field(default_factory=list)

    @property
    def builds(self) -> list[FactBuild]:
        return [writer for writer in self.facts.values() if isinstance(writer, FactBuild)]

    @property
    def out_of_days(self) -> list[FactMerge]:
        return [writer for writer in self.facts.values() if isinstance(writer, FactMerge) and writer.violated]

    def swap_in(self, cursor: Any) -> None:
        """Let readers see what was built anew, last of all: they wait for this and the commit."""
        if locked := [table for build in self.builds for table in build.locked] + self.fingerprints.locked:
            lock_from_readers(cursor, locked)
        for build in self.builds:
            build.swap_in()
        self.fingerprints.swap_in()


def stage_all(request: PublishRequest, cursor: Any, published: Published) -> Work:
    """Stage dimensions and fingerprints, collect what differs in the facts, and see what that does to the revenue."""
    work = Work(Dimensions(cursor, request.run_id, DimensionKeys(cursor)), OrderFingerprints(cursor))
    for target in DIMENSIONS:
        stage_dimension(request, work.dimensions, target, published)
    work.dimensions.finish_staging()
    if not request.reads_everything:
        stage_touched_orders(cursor, (touched for _, touched in request.batches(TOUCHED_ORDERS)))
    sold = stage_unsold_orders(cursor, (batch for _, batch in request.batches(ORDER_FINGERPRINTS)), ORDER_FINGERPRINTS)
    work.fingerprints.stage(sold, request.run_id, request.run_uuid, in_scope(request.reads_everything, "order_id"))
    work.prepared = list(Prepared.objects.filter(run_uuid=request.run_uuid).order_by(F("low").asc(nulls_first=True)))
    hold_prepared(work.prepared)
    for fact in FACTS:
        stage_fact(request, cursor, fact, work)
    return work


def hold_prepared(rows: Collection[Prepared]) -> None:
    """Keep other sessions from dropping what is prepared until the end of the transaction. Raises PreparedLost where one does, or did."""
    held = lock_free(rows)
    if lost := [row.relation for row in rows if row.pk not in held]:
        raise PreparedLost(message("run.prepared_lost", slices=", ".join(lost[:SHOWN_IDS])))


def stage_dimension(request: PublishRequest, dimensions: Dimensions, target: Target, published: Published) -> None:
    """Stage the dimension's batches. A dimension without one stays as it was."""
    for bounds, clean in request.batches(target.table):
        dimensions.stage(target, clean, bounds)
        published.fingerprints.setdefault(target.table, []).append(SliceFingerprint(*bounds, get_metadata(clean, "fingerprint")))
        request.report(target.table, clean.num_rows)


def stage_fact(request: PublishRequest, cursor: Any, fact: Fact, work: Work) -> None:
    """Take what was prepared of the fact; where nothing is, compare its batches here."""
    prepared = [each for each in work.prepared if each.fact == fact.table]
    found = [Findings.from_json(each.findings) for each in prepared]
    findings = add_up(found)
    if prepared and prepared[0].is_partition:
        work.facts[fact.table] = FactBuild(cursor, fact, request.run_id, prepared, findings)
    else:
        changes = FactChanges(cursor, fact, f"changed_{fact.table}")
        changes.create_temporary()
        for each, part in zip(prepared, found, strict=True):
            take_changes(cursor, changes, each.relation, part.differing)
        if not request.is_prepared:
            # Not ahead in a thread: its session would wait for the keys that this one has reserved.
            rows = FactRows(cursor, fact, work.dimensions.keys, request.batches, ahead=False)
            findings = collect_changes(changes, rows, request.batches(fact.table), request.reads_everything, request.report)
        merge = FactMerge(cursor, changes, request.run_id, findings.rows)
        merge.compare(*(ids.get(fact.source.table, ()) for ids in (request.rejected_ids, request.standing_ids)))
        work.facts[fact.table] = merge
    work.findings[fact.table] = findings
    work.dimensions.inferred.add(findings.inferred)


def take_changes(cursor: Any, changes: FactChanges, relation: str, count: int) -> None:
    """Add the `count` rows that differ in one range. Raises PreparedLost where somebody has taken rows out of its table, or added some."""
    cursor.execute(f"INSERT INTO {changes.table} SELECT * FROM {relation}")
    if cursor.rowcount != count:
        raise PreparedLost(message("run.prepared_lost", slices=relation))


def write_all(request: PublishRequest, cursor: Any, work: Work, published: Published) -> None:
    work.dimensions.write(request.rejected_ids)
    work.fingerprints.write()
    if work.builds:
        clear_star(cursor)
    for table, writer in work.facts.items():
        published.written[table] = writer.write()
        published.revenues[table] = writer.revenue
        if isinstance(writer, FactMerge) and writer.fact.has_product_columns:
            changed = work.dimensions.changed_products
            published.written[table].derived = update_product_columns(cursor, writer.fact, changed, request.run_id)
    record_proof(cursor, request.proven, request.as_of)
    if not work.builds and (request.reads_everything or request.changed_star):
        record_star(cursor, None if request.reads_everything else request.changed_star)
    record_dimensions(cursor, published)
    release_prepared(work)
    published.written = work.dimensions.written | published.written


def release_prepared(work: Work) -> None:
    """Drop the tables that were merged; those that are partitions now, or took another's place, stay."""
    merged = [each for each in work.prepared if each.fact in work.facts and not each.is_partition]
    drop_prepared(merged)
    forget_prepared(each for each in work.prepared if each not in merged)


def record_dimensions(cursor: Any, published: Published) -> None:
    """Add to the fingerprints of what was loaded those of the rows as they are now, inferred members of the facts among them."""
    for table, slices in published.fingerprints.items():
        published.fingerprints[table] = [
            each._replace(star=sum_dimension(cursor, TARGETS[table], (each.low, each.high))) for each in slices
        ]


def run_checks(request: PublishRequest, cursor: Any, work: Work, published: Published) -> list[Result]:
    """Run the checks of what was written. Partitions were checked when they were prepared."""
    planned = checks.dimension_checks(published.fingerprints)
    planned += [checks.unique_key(build.fact, build.count_repeated()) for build in work.builds]
    results: list[Result] = []
    for fact in FACTS:
        scope, findings = in_scope(request.reads_everything, fact.sliced_by), work.findings[fact.table]
        planned += checks.relationship_checks(fact, scope)
        kopiykas = {each.column: findings.kopiykas.get(each.column, 0) for each in fact.reconciliations}
        check = checks.fact_check(cursor.db.vendor, fact, scope, request.counts[fact.table].loaded, kopiykas)
        with looked_up_in(fact.table, cursor, request.reads_everything):
            results += check.judge(findings.numbers or check.measure(cursor, fact.table))
    return [*checks.balance(request.counts, published.written), *(result for check in planned for result in check.run(cursor)), *results]


def refuse_failed_checks(published: Published, checked: Sequence[Result], request: PublishRequest) -> None:
    """Raise for failed checks, which nobody can accept; or where there are none, for the brakes among `published.checks`."""
    failed = [result for result in checked if result.blocking and not result.passed]
    braked = [result for result in published.checks if result.blocking and not result.passed]
    if not braked:
        return
    if failed:
        kind = Unbalanced if any(result.name == message("check.balance") for result in failed) else ChecksRefused
        error = kind(message("checks.failed", checks=checks.name_failures(failed)))
    else:
        error = BrakesApplied(message("brakes.applied", checks=checks.name_failures(braked), run=request.run_id))
    error.results, error.revenues = published.checks, published.revenues
    raise error
