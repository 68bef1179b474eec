"""Totals of runs, in one or two queries for any number of runs and rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.utils.translation import gettext as _

from apps.etl.tables import ORDER_ITEMS, PAYMENTS, TARGETS
from apps.orchestration.models import CheckResult, Reject, RowCount, Run, Stage, State
from techmarket.formats import localize_uah

WRITTEN = ("inserted", "updated", "deleted", "derived")
# What rejects are worth: net revenue of lines, amounts of payments.
WORTH = {"net": Sum("amount", filter=Q(table=ORDER_ITEMS.table)), "paid": Sum("amount", filter=Q(table=PAYMENTS.table))}


@dataclass(frozen=True)
class Tally:
    """Rows read for the warehouse's tables, written to them, and rejected; checks, failed blocking ones, and warnings.

    `counted` is False where the ledger has no row counts: the run did not get that far, or its details have been deleted.
    `rejected_net`, `rejected_paid`: UAH of the rejected lines and payments.
    """

    read: int = 0
    written: int = 0
    rejected: int = 0
    checks: int = 0
    blocking: int = 0
    warnings: int = 0
    counted: bool = False
    rejected_net: Decimal = Decimal()
    rejected_paid: Decimal = Decimal()

    @property
    def passed(self) -> int:
        return self.checks - self.blocking - self.warnings

    @property
    def rejected_worth(self) -> str:
        """What the rejected rows are worth, in words; empty where that is nothing, or unknown."""
        net = _("%(amount)s of net revenue") % {"amount": localize_uah(self.rejected_net)} if self.rejected_net else ""
        paid = _("%(amount)s of payments") % {"amount": localize_uah(self.rejected_paid)} if self.rejected_paid else ""
        return ", ".join(filter(None, (net, paid)))


@dataclass(frozen=True)
class Progress:
    """Progress of an active run. How many tasks there are is known once it is planned."""

    done: int
    tasks: int
    rows: int
    now: list[str]

    @property
    def percent(self) -> int:
        return self.done * 100 // self.tasks if self.tasks > 1 else 0


def tallies(runs: Iterable[Run]) -> dict[int, Tally]:
    """Return the totals by run id."""
    runs = list(runs)
    rows, checks, amounts = count_rows(runs), count_checks(runs), sum_rejects(runs)

    def tally(run: Run) -> Tally:
        counts = (*rows.get(run.pk, (0, 0, 0)), *checks.get(run.pk, (0, 0, 0)))
        return Tally(*counts, run.pk in rows, *amounts.get(run.pk, (Decimal(), Decimal())))

    return {run.pk: tally_document(run.result) if run.dry_run else tally(run) for run in runs}


def count_rows(runs: Iterable[Run]) -> dict[int, tuple[int, int, int]]:
    """Return rows read, written and rejected by run id. A reject counts for the table whose row was read, also one of a source."""
    of_warehouse = Q(table__in=TARGETS)
    written = sum((F(name) for name in WRITTEN[1:]), F(WRITTEN[0]))
    rows = RowCount.objects.filter(run__in=[run.pk for run in runs]).order_by().values("run")
    sums = rows.annotate(
        rows_read=Sum("read", filter=of_warehouse, default=0),
        rows_written=Sum(written, filter=of_warehouse, default=0),
        rows_rejected=Sum("rejected"),
    )
    return {row["run"]: (row["rows_read"], row["rows_written"], row["rows_rejected"]) for row in sums}


def count_checks(runs: Iterable[Run]) -> dict[int, tuple[int, int, int]]:
    """Return all checks, failed blocking ones and warnings by run id."""
    blocking, warnings = Q(passed=False, blocking=True), Q(passed=False, blocking=False)
    rows = CheckResult.objects.filter(run__in=[run.pk for run in runs]).order_by().values("run")
    # Not named `blocking`: the next condition would mean the annotation instead of the column.
    sums = rows.annotate(checks=Count("pk"), failures=Count("pk", filter=blocking), warnings=Count("pk", filter=warnings))
    return {row["run"]: (row["checks"], row["failures"], row["warnings"]) for row in sums}


def sum_rejects(runs: Iterable[Run]) -> dict[int, tuple[Decimal, Decimal]]:
    """Return the UAH of rejected lines and of rejected payments by run id."""
    rejects = Reject.objects.filter(run__in=[run.pk for run in runs], amount__isnull=False).order_by()
    return {run: (to_uah(net), to_uah(paid)) for run, net, paid in rejects.values("run").annotate(**WORTH).values_list("run", *WORTH)}


def to_uah(total: Decimal | float | None) -> Decimal:
    """Return a sum exactly: SQLite's is a float, and of no row there is none."""
    return round(Decimal(total or 0), 2)


def tally_document(result: Mapping[str, Any] | None) -> Tally:
    """Return the totals of a document as `run_etl --json` prints it, the only record of a dry run."""
    if not result or "tables" not in result:
        return Tally()
    tables, checks = result["tables"].values(), result["checks"]
    failed = [check for check in checks if not check["passed"]]
    blocking = sum(check["blocking"] for check in failed)
    return Tally(
        read=sum(row["read"] for row in tables),
        written=sum(row[name] for row in tables for name in WRITTEN),
        rejected=sum(reject["rows"] for reject in result["rejects"]),
        checks=len(checks),
        blocking=blocking,
        warnings=len(failed) - blocking,
        counted=bool(tables),
        rejected_net=sum_amounts(result, ORDER_ITEMS.table),
        rejected_paid=sum_amounts(result, PAYMENTS.table),
    )


def sum_amounts(result: Mapping[str, Any], table: str) -> Decimal:
    return sum((Decimal(reject.get("amount") or 0) for reject in result["rejects"] if reject["table"] == table), Decimal())


def progress(run: Run) -> Progress:
    """Return the progress by the counts of tasks: a page that asks every second must not count 40 000 tasks."""
    counts = list(run.task_counts.all())
    done, rows = sum(count.finished for count in counts), sum(count.rows for count in counts if count.stage == Stage.EXTRACT)
    running = [str(task) for task in run.tasks.filter(state=State.RUNNING)]
    return Progress(done, sum(count.tasks for count in counts), rows, running)
