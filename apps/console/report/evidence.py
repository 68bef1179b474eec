"""The contents of a report, of one run or of the runs of a period, read from the ledger and the warehouse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import Count, Min, QuerySet, Sum
from django.utils.translation import gettext

from apps.console.overview.figures import Figure, Period, figures
from apps.console.overview.headline import Number, list_numbers
from apps.console.overview.sales import SalesDates, find_dates
from apps.console.personal import HIDDEN, personal_columns
from apps.console.report.reservations import list_reservations
from apps.etl.tables import TARGETS
from apps.etl.transform.rules import render_label, render_reason
from apps.orchestration.models import CheckResult, Reject, RowCount, Run, State
from apps.orchestration.recent_runs import FINISHED, FinishedRun, finished_runs
from apps.orchestration.tally import tallies
from apps.orchestration.window import Window
from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import to_date_key
from apps.warehouse.loads import Load
from apps.warehouse.report import build_report
from techmarket.diagnosis import diagnosed
from techmarket.errors import Usage

COLUMNS = ("read", "loaded", "inserted", "updated", "unchanged", "deleted", "derived", "filtered", "rejected")
SOURCE_COLUMNS = ("read", "loaded", "filtered", "rejected")
RECONCILIATION_CODES = "check.reconciliation"
MAX_REJECTS = 500
MAX_RUNS = 2_000


@dataclass(frozen=True)
class Line:
    """The rows of one table, summed over the runs that published. `lost` rows were neither loaded, filtered nor rejected."""

    table: str
    in_warehouse: bool
    counts: dict[str, int]

    @property
    def cells(self) -> list[int | None]:
        """Return the counts in the order of COLUMNS, None where a source table has none."""
        return [self.counts[name] if self.in_warehouse or name in SOURCE_COLUMNS else None for name in COLUMNS]

    @property
    def lost(self) -> int:
        return self.counts["read"] - self.counts["loaded"] - self.counts["filtered"] - self.counts["rejected"]


@dataclass(frozen=True)
class Evidence:
    """Either `run` is set, or `start` and `end` of the period. `as_of`: the latest load, which the KPIs show.

    `reservations`: what a signature under the period does not cover, such as days that nobody has compared with the sources.
    """

    runs: list[FinishedRun]
    lines: list[Line]
    checks: list[CheckResult]
    checks_ran: bool
    reconciled: list[CheckResult]
    groups: list[dict[str, Any]]
    rejects: list[Reject]
    rejected: int
    run: Run | None = None
    load: Load | None = None
    start: date | None = None
    end: date | None = None
    sales: SalesDates = None
    as_of: Load | None = None
    numbers: list[Number] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    reservations: list[str] = field(default_factory=list)

    @property
    def certifies(self) -> bool:
        """Return True if there is something to sign: sales, or a run."""
        return bool(self.run or self.sales)

    @property
    def runs_without_details(self) -> int:
        """Count the runs that published and whose details have been deleted (ETL_KEEP_DETAILS_DAYS)."""
        return sum(one.run.state == State.SUCCEEDED and not one.tally.counted for one in self.runs)

    @property
    def hidden_rejects(self) -> int:
        return self.rejected - len(self.rejects)


def report_run(number: int | None) -> Evidence:
    """Return the report of this run, or of the last finished one. Raises Usage for an unknown run and for a dry run."""
    run = Run.objects.filter(pk=number).first() if number else finished_runs().first()
    if run is None:
        missing = f"There is no run {number}. Leave out --run to report the last one."
        raise Usage(missing if number else "No run has ended yet. Start one with `manage.py run_etl`.")
    if run.dry_run:
        raise Usage(f"Run {run.pk} was a dry run and published nothing. Choose another run.")
    counted = read_ledger([run], [run], run.checks.all())
    with diagnosed("dwh"):
        return Evidence(**counted, run=run, load=Load.objects.filter(run_uuid=run.uuid).first(), **read_kpis(None, None))


def report_period(start: date, end: date) -> Evidence:
    """Return the report of the sales of these days of the shop's calendar, and of the runs that wrote them.

    Runs that failed since the last load are listed, too. Raises Usage for too many runs.
    """
    Window.between(start, end)  # refuses days that cannot be asked for
    with diagnosed("dwh"):
        writers, kpis = find_writers(start, end), read_kpis(start, end)
    if len(writers) > MAX_RUNS:
        raise Usage(f"More than {MAX_RUNS} runs wrote the sales from {start} to {end}; report a shorter period.")
    failed = list(find_unsuccessful_since(kpis["as_of"])[:MAX_RUNS])
    runs = sorted([*Run.objects.filter(pk__in=writers), *failed], key=lambda run: run.pk)
    published = [run for run in runs if run.state == State.SUCCEEDED]
    counted = read_ledger(runs, published, CheckResult.objects.filter(run__in=runs, passed=False).order_by("run_id", "id"))
    reservations = list_reservations(start, end, writers, runs, failed, kpis["as_of"])
    return Evidence(**counted, start=start, end=end, reservations=reservations, **kpis)


def find_unsuccessful_since(load: Load | None) -> "QuerySet[Run]":
    """Return the runs that failed, were lost or cancelled after the load was published."""
    ended = Run.objects.filter(dry_run=False, state__in=FINISHED).exclude(state=State.SUCCEEDED)
    return ended.filter(created_at__gt=load.published_at) if load else ended


def find_writers(start: date, end: date) -> list[int]:
    """Return the ids of the runs that wrote the order lines of these days."""
    lines = FactSales.objects.filter(date__gte=to_date_key(start), date__lte=to_date_key(end)).order_by()
    return sorted(lines.values_list("run_id", flat=True).distinct()[: MAX_RUNS + 1])


def read_ledger(runs: Sequence[Run], counting: Sequence[Run], checks: Iterable[CheckResult]) -> dict[str, Any]:
    """Return the part of a report that comes from the ledger. Its rows, reconciliation and rejects are those of `counting`."""
    rejects, counted = Reject.objects.filter(run__in=counting), tallies(runs)
    return {
        "runs": [FinishedRun(run, counted[run.pk]) for run in runs],
        "lines": sum_lines(counting),
        "checks": list(checks),
        "checks_ran": CheckResult.objects.filter(run__in=runs).exists(),
        "reconciled": list(
            CheckResult.objects.filter(run__in=counting, name__code__startswith=RECONCILIATION_CODES).order_by("run_id", "id")
        ),
        "groups": group_rejects(rejects),
        "rejects": [mask_reject(reject) for reject in rejects.order_by("run_id", "table", "rule", "id")[:MAX_REJECTS]],
        "rejected": rejects.count(),
    }


def sum_lines(runs: Sequence[Run]) -> list[Line]:
    """Return the warehouse's tables in the order of loading, then the source tables read as lookups."""
    rows = RowCount.objects.filter(run__in=runs).order_by("table").values("table").annotate(*(Sum(name) for name in COLUMNS))
    sums = rows.values_list("table", *(f"{name}__sum" for name in COLUMNS))
    counts = {table: dict(zip(COLUMNS, found, strict=True)) for table, *found in sums}
    ordered = [table for table in TARGETS if table in counts] + [table for table in counts if table not in TARGETS]
    return [Line(table, table in TARGETS, counts[table]) for table in ordered]


def group_rejects(rejects: Any) -> list[dict[str, Any]]:
    """Count rejected rows, their UAH and their runs by table, rule and parameters, with label and reason in the active language."""
    found = rejects.values("table", "rule", "params").order_by("table", "rule", "params")
    counted = found.annotate(rows=Count("pk"), uah=Sum("amount"), runs=Count("run", distinct=True), first=Min("row_id"))
    return [group | {"label": render_label(group["rule"], gettext)} | {"reason": reason_of(group)} for group in counted]


def reason_of(group: dict[str, Any]) -> str:
    return render_reason(group["rule"], group["params"], gettext)


def mask_reject(reject: Reject) -> Reject:
    """Hide personal data, because a report is filed and passed on; of an unknown table, hide everything."""
    known = personal_columns_by_table()
    hidden = known.get(reject.table, tuple(reject.raw))
    reject.raw = {name: HIDDEN if value and name in hidden else value for name, value in reject.raw.items()}
    return reject


def personal_columns_by_table() -> dict[str, tuple[str, ...]]:
    models = [model for alias in settings.SOURCES for model in apps.get_app_config(alias).get_models()]
    return {model._meta.db_table: personal_columns(model) for model in models}


def read_kpis(start: date | None, end: date | None) -> dict[str, Any]:
    """Return the KPIs of these days, or of all; none where there are no sales."""
    as_of, days = Load.objects.order_by("-sequence").first(), find_dates()
    found = build_report(start, end) if days else None
    if not found or not found.totals.orders:
        return {"as_of": as_of, "sales": None}
    return {
        "as_of": as_of,
        "sales": days,
        "numbers": list(list_numbers(found, Period(start, end))),
        "figures": figures(found, Period(start, end), names_people=False),
    }
