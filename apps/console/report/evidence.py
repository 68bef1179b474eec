"""What a report shows: of one run, or of the runs of a period. All of it is the ledger's and the star's; nothing is reckoned anew."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import Count, Min, Sum

from apps.console.overview.figures import Figure, Period, figures
from apps.console.overview.headline import Number, numbers
from apps.console.overview.sales import Sold, sold
from apps.console.readonly import HIDDEN, personal
from apps.etl.tables import TARGETS
from apps.orchestration.models import CheckResult, Reject, RowCount, Run, State
from apps.orchestration.recent_runs import FinishedRun, finished_runs
from apps.orchestration.tally import tallies
from apps.orchestration.window import Window
from apps.warehouse.loads import Load
from apps.warehouse.report import build_report
from techmarket.diagnosis import diagnosed
from techmarket.errors import Usage

COLUMNS = ("read", "loaded", "inserted", "updated", "unchanged", "deleted", "derived", "filtered", "rejected")
OF_SOURCES = ("read", "loaded", "filtered", "rejected")
RECONCILED = "reconciliation "
SHOWN_REJECTS = 500
MOST_RUNS = 2_000


@dataclass(frozen=True)
class Line:
    """The rows of one table, summed over the runs that published. `lost` is what neither was loaded nor filtered nor rejected."""

    table: str
    in_warehouse: bool
    counts: dict[str, int]

    @property
    def cells(self) -> list[int | None]:
        """Of a source table only what was read of it: what became of it is the warehouse's."""
        return [self.counts[name] if self.in_warehouse or name in OF_SOURCES else None for name in COLUMNS]

    @property
    def lost(self) -> int:
        return self.counts["read"] - self.counts["loaded"] - self.counts["filtered"] - self.counts["rejected"]


@dataclass(frozen=True)
class Evidence:
    """`run`: the one that was asked for, else `start` and `end` say which period. `as_of`: the load that the KPIs are of."""

    runs: list[FinishedRun]
    lines: list[Line]
    checks: list[CheckResult]
    reconciled: list[CheckResult]
    groups: list[dict[str, Any]]
    rejects: list[Reject]
    rejected: int
    run: Run | None = None
    load: Load | None = None
    start: date | None = None
    end: date | None = None
    sales: Sold = None
    as_of: Load | None = None
    numbers: list[Number] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def forgotten(self) -> int:
        """Runs that published, and whose details the ledger has let go (ETL_KEEP_DETAILS_DAYS)."""
        return sum(one.run.state == State.SUCCEEDED and not one.tally.counted for one in self.runs)

    @property
    def hidden_rejects(self) -> int:
        return self.rejected - len(self.rejects)


def of_run(number: int | None) -> Evidence:
    """Of this run, or of the last that has ended. Raises Usage where there is none, or where it was a rehearsal."""
    run = Run.objects.filter(pk=number).first() if number else finished_runs().first()
    if run is None:
        raise Usage(f"There is no run {number}." if number else "No run has ended yet. `manage.py run_etl` starts one.")
    if run.dry_run:
        raise Usage(f"Run {run.pk} was a dry run: it published nothing, so there is nothing to report.")
    counted = ledger([run], run.checks.all())
    with diagnosed("dwh"):
        return Evidence(**counted, run=run, load=Load.objects.filter(run_uuid=run.uuid).first(), **kpis(None, None))


def of_period(start: date, end: date) -> Evidence:
    """Of the runs that were asked for on these business days, and of the sales of these days. Raises Usage where there are too many."""
    period = Window.between(start, end)
    runs = list(Run.objects.filter(dry_run=False, created_at__gte=period.start, created_at__lt=period.end).order_by("pk")[: MOST_RUNS + 1])
    if len(runs) > MOST_RUNS:
        raise Usage(f"There are more than {MOST_RUNS} runs from {start} to {end}; report a shorter period.")
    counted = ledger(runs, CheckResult.objects.filter(run__in=runs, passed=False).order_by("run_id", "id"))
    with diagnosed("dwh"):
        return Evidence(**counted, start=start, end=end, **kpis(start, end))


def ledger(runs: Sequence[Run], checks: Iterable[CheckResult]) -> dict[str, Any]:
    """Sums are those of the runs that published; what refused or failed stands beside them."""
    published = [run for run in runs if run.state == State.SUCCEEDED] or (runs if len(runs) == 1 else [])
    rejects, counted = Reject.objects.filter(run__in=runs), tallies(runs)
    return {
        "runs": [FinishedRun(run, counted[run.pk]) for run in runs],
        "lines": lines(published),
        "checks": list(checks),
        "reconciled": list(CheckResult.objects.filter(run__in=runs, name__startswith=RECONCILED).order_by("run_id", "id")),
        "groups": groups(rejects),
        "rejects": [masked(reject) for reject in rejects.order_by("run_id", "table", "rule", "id")[:SHOWN_REJECTS]],
        "rejected": rejects.count(),
    }


def lines(runs: Sequence[Run]) -> list[Line]:
    """The warehouse's tables in the order of loading, then those of the sources that were read for them."""
    rows = RowCount.objects.filter(run__in=runs).order_by("table").values("table").annotate(*(Sum(name) for name in COLUMNS))
    sums = rows.values_list("table", *(f"{name}__sum" for name in COLUMNS))
    counts = {table: dict(zip(COLUMNS, found, strict=True)) for table, *found in sums}
    ordered = [table for table in TARGETS if table in counts] + [table for table in counts if table not in TARGETS]
    return [Line(table, table in TARGETS, counts[table]) for table in ordered]


def groups(rejects: Any) -> list[dict[str, Any]]:
    """By table, rule and reason: how many rows, of how many runs, and the first of them."""
    found = rejects.values("table", "rule", "reason").order_by("table", "rule", "reason")
    return list(found.annotate(rows=Count("pk"), runs=Count("run", distinct=True), first=Min("row_id")))


def masked(reject: Reject) -> Reject:
    """A report is filed and passed on: personal data is not in it. Of a table that we do not know, nothing is shown."""
    known = personal_columns()
    hidden = known.get(reject.table, tuple(reject.raw))
    reject.raw = {name: HIDDEN if value and name in hidden else value for name, value in reject.raw.items()}
    return reject


def personal_columns() -> dict[str, tuple[str, ...]]:
    models = [model for alias in settings.SOURCES for model in apps.get_app_config(alias).get_models()]
    return {model._meta.db_table: personal(model) for model in models}


def kpis(start: date | None, end: date | None) -> dict[str, Any]:
    """Of these business days, or of all; nothing of an empty star."""
    as_of, days = Load.objects.order_by("-published_at").first(), sold()
    found = build_report(start, end) if days else None
    if not found or not found.totals.orders:
        return {"as_of": as_of, "sales": None}
    return {"as_of": as_of, "sales": days, "numbers": list(numbers(found)), "figures": figures(found, Period(start, end))}
