"""What came of runs, in numbers: a query or two, however many runs there are, and however many rows each of them had."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Q, Sum

from apps.etl.tables import TARGETS
from apps.orchestration.models import CheckResult, RowCount, Run, Stage, State

WRITTEN = ("inserted", "updated", "deleted", "derived")


@dataclass(frozen=True)
class Tally:
    """Rows that were read for the warehouse's tables, written to them, and rejected; checks, and those of them that refuse or warn.

    `counted` is False where the ledger has no row counts: of a run that did not come so far, or of one whose details are forgotten.
    """

    read: int = 0
    written: int = 0
    rejected: int = 0
    checks: int = 0
    refused: int = 0
    warned: int = 0
    counted: bool = False

    @property
    def passed(self) -> int:
        return self.checks - self.refused - self.warned


@dataclass(frozen=True)
class Progress:
    """Of a run that is active. Its plan is what tells how many tasks there are."""

    done: int
    tasks: int
    rows: int
    now: list[str]

    @property
    def percent(self) -> int:
        return self.done * 100 // self.tasks if self.tasks > 1 else 0


def tallies(runs: Iterable[Run]) -> dict[int, Tally]:
    """By number of the run."""
    runs = list(runs)
    rows, checks = rows_of(runs), checks_of(runs)

    def recorded(run: Run) -> Tally:
        return Tally(*rows.get(run.pk, (0, 0, 0)), *checks.get(run.pk, (0, 0, 0)), counted=run.pk in rows)

    return {run.pk: of_document(run.result) if run.dry_run else recorded(run) for run in runs}


def rows_of(runs: Iterable[Run]) -> dict[int, tuple[int, int, int]]:
    """Read, written, rejected. A reject is counted where its row was read, in a table of the warehouse or of a source."""
    mine = Q(table__in=TARGETS)
    written = sum((F(name) for name in WRITTEN[1:]), F(WRITTEN[0]))
    rows = RowCount.objects.filter(run__in=[run.pk for run in runs]).order_by().values("run")
    sums = rows.annotate(
        rows_read=Sum("read", filter=mine, default=0),
        rows_written=Sum(written, filter=mine, default=0),
        rows_rejected=Sum("rejected"),
    )
    return {row["run"]: (row["rows_read"], row["rows_written"], row["rows_rejected"]) for row in sums}


def checks_of(runs: Iterable[Run]) -> dict[int, tuple[int, int, int]]:
    """All, those that refuse, those that warn."""
    refuses, warns = Q(passed=False, blocking=True), Q(passed=False, blocking=False)
    rows = CheckResult.objects.filter(run__in=[run.pk for run in runs]).order_by().values("run")
    sums = rows.annotate(checks=Count("pk"), refused=Count("pk", filter=refuses), warned=Count("pk", filter=warns))
    return {row["run"]: (row["checks"], row["refused"], row["warned"]) for row in sums}


def of_document(result: Mapping[str, Any] | None) -> Tally:
    """Of what `run_etl --json` says of a run; a dry run's is all that it leaves."""
    if not result or "tables" not in result:
        return Tally()
    tables, checks = result["tables"].values(), result["checks"]
    failed = [check for check in checks if not check["passed"]]
    refused = sum(check["blocking"] for check in failed)
    return Tally(
        read=sum(row["read"] for row in tables),
        written=sum(row[name] for row in tables for name in WRITTEN),
        rejected=sum(reject["rows"] for reject in result["rejects"]),
        checks=len(checks),
        refused=refused,
        warned=len(failed) - refused,
        counted=bool(tables),
    )


def progress(run: Run) -> Progress:
    tasks = run.tasks.order_by()
    counts = tasks.aggregate(done=Count("pk", filter=Q(state=State.SUCCEEDED)), all=Count("pk"))
    rows = run.batches.filter(task__stage=Stage.EXTRACT).aggregate(rows=Sum("rows"))["rows"] or 0
    return Progress(counts["done"], counts["all"], rows, [str(task) for task in run.tasks.filter(state=State.RUNNING)])
