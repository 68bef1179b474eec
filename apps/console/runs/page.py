"""The contents of a run's page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.console.runs.comparison import compare_with_baseline
from apps.console.runs.log import build_log
from apps.console.runs.timeline import draw_timeline
from apps.etl.tables import FACT_TABLES
from apps.etl.transform.rules import render_label, render_reason
from apps.orchestration import clock
from apps.orchestration.found import describe_found
from apps.orchestration.models import Attempt, CauseKind, RowCount, Run, State, Task
from apps.orchestration.results import CAUSES, CauseTotal, changed_months, document, sum_causes
from apps.orchestration.tally import WRITTEN, progress, tally_document
from apps.orchestration.window import describe_window

# The variants of unfold's labels, by state.
COLOURS = {
    State.QUEUED: "info",
    State.RUNNING: "info",
    State.SUCCEEDED: "success",
    State.FAILED: "danger",
    State.LOST: "danger",
    State.CANCELLED: "warning",
    State.SKIPPED: "default",
}
REFRESH_INTERVAL_S = 2  # while the run is active
COLUMNS = ("read", "inserted", "updated", "unchanged", "deleted", "derived", "filtered", "rejected")
SOURCE_COLUMNS = ("read", "filtered", "rejected")
MAX_REJECTS = 20
MAX_TASKS = 100
CAUSE_ADVICE = {
    CauseKind.DATA: gettext_lazy("Cause: data. Correct the rows or the schema in the source, then start a new run."),
    CauseKind.MACHINE: gettext_lazy("Cause: infrastructure. A server, a disk or the network failed; data and settings are unchanged."),
    CauseKind.CONFIGURATION: gettext_lazy("Cause: configuration. Ask an administrator to correct it, then start the run again."),
    CauseKind.BUG: gettext_lazy("Cause: a bug in TechMarket. Report it with the log of this run."),
}
# The order of tasks on the page.
URGENCY = (State.FAILED, State.LOST, State.RUNNING, State.CANCELLED, State.QUEUED, State.SUCCEEDED)


@dataclass(frozen=True)
class Row:
    """The counts of a table in the order of COLUMNS, None where a column does not apply. `href`: the rows that the run wrote.

    `is_lookup`: a source table that was read as a lookup for the warehouse's tables.
    """

    table: str
    counts: list[tuple[str, int | None]]
    is_lookup: bool = False
    href: str = ""


@dataclass(frozen=True)
class Detail:
    name: str
    value: Any
    href: str = ""


def build_page(run: Run, user: Any) -> dict[str, Any]:
    """Return the template's context in a dozen queries, however large the run; the numbers are those of `run_etl --json`."""
    result = document(run)
    tally = tally_document(result)
    words = {field.name: field.verbose_name for field in RowCount._meta.concrete_fields}
    tasks = list(run.tasks.defer("claim", "session", "message_sent_at"))
    attempts = list(run.attempts.all())
    rows = list(list_rows(run, user, result))
    return {
        "tally": tally,
        "colour": COLOURS[State(run.state)],
        "duration": measure_duration(run),
        "details_deleted_after": settings.ETL_KEEP_DETAILS_DAYS if has_lost_details(run, tasks) else 0,
        "progress": progress(run) if run.is_active else None,
        "refresh_interval": REFRESH_INTERVAL_S if run.is_active else None,
        "advice": CAUSE_ADVICE.get(CauseKind(run.cause_kind)) if run.cause_kind else "",
        "timeline": draw_timeline(tasks),
        "columns": [(name, words[name]) for name in COLUMNS],
        "rows": rows,
        "are_rows_loaded": all(is_balanced(counts) for counts in result["tables"].values()),
        "facts": next((row.href for row in rows if row.table in FACT_TABLES and row.href), ""),
        "checks": sorted(result["checks"], key=lambda check: (check["passed"], not check["blocking"])),
        "rules": [describe_rejects(run, group) for group in result["rejects"]],
        "rejects": list(run.rejects.defer("raw")[:MAX_REJECTS]) if tally.rejected else [],
        "all_rejects": rejects_address(run),
        "tasks": [(task, COLOURS[State(task.state)], earlier_attempts(task, attempts)) for task in sorted(tasks, key=urgency)[:MAX_TASKS]],
        "more_tasks": max(len(tasks) - MAX_TASKS, 0),
        "log": build_log(run, tasks, attempts),
        "comparison": compare_with_baseline(run, tally) if run.finished_at and run.state != State.SKIPPED else None,
        "revenue": build_revenue(run, result),
        "details": list(filter(None, list_details(run))),
    }


@dataclass(frozen=True)
class Revenue:
    """Net revenue by month: month, UAH before and after, difference, and the part of each of `causes`. `is_published`: it is so by now."""

    causes: list[CauseTotal]
    months: list[tuple[date, Decimal, Decimal, Decimal, list[Decimal]]]
    is_published: bool

    @property
    def labels(self) -> list[str]:
        return [_(CAUSES[each.cause]) for each in self.causes]

    @property
    def total(self) -> Decimal:
        return sum((each.net for each in self.causes), Decimal())


def build_revenue(run: Run, result: Mapping[str, Any]) -> Revenue:
    causes = sum_causes(result)
    parts = {(row["month"], row["cause"]): Decimal(row["net"]) for row in result.get("net_by_cause", ())}
    months = [
        (date.fromisoformat(f"{month}-01"), before, after, change, [parts.get((month, each.cause), Decimal()) for each in causes])
        for month, before, after, change in changed_months(result)
    ]
    return Revenue(causes, months, run.state == State.SUCCEEDED and not run.dry_run)


def measure_duration(run: Run) -> timedelta:
    """Return the time from the start to the end, or until now."""
    return (run.finished_at or clock.now()) - run.started_at if run.started_at else timedelta()


def has_lost_details(run: Run, tasks: Sequence[Task]) -> bool:
    """Return True if only the run's own row is left, as after ETL_KEEP_DETAILS_DAYS: every executed run had a task."""
    return run.finished_at is not None and not tasks and not run.dry_run and run.state != State.SKIPPED


def list_rows(run: Run, user: Any, result: Mapping[str, Any]) -> Iterator[Row]:
    for table, counts in result["tables"].items():
        wrote = any(counts[name] for name in WRITTEN if name != "deleted")
        yield Row(table, cells(counts, COLUMNS), href=written_rows_address(run, user, table) if wrote else "")
    for table, counts in result["sources"].items():
        yield Row(table, cells(counts, SOURCE_COLUMNS), is_lookup=True)


def is_balanced(counts: Mapping[str, int]) -> bool:
    """Return True if every row of the table that was read is accounted for, which it is once the run has loaded it."""
    return counts["read"] == sum(counts[name] for name in ("inserted", "updated", "unchanged", "filtered", "rejected"))


def cells(counts: Mapping[str, int], known: Iterable[str]) -> list[tuple[str, int | None]]:
    return [(name, counts[name] if name in known else None) for name in COLUMNS]


def written_rows_address(run: Run, user: Any, table: str) -> str:
    """Return the address of the list of rows that this run was the last to write, or "" for a user who may not view them."""
    model = {model._meta.db_table: model for model in apps.get_app_config("dwh").get_models()}.get(table)
    if run.dry_run or model is None or not user.has_perm(f"dwh.view_{model._meta.model_name}"):
        return ""
    return f"{reverse(f'admin:dwh_{model._meta.model_name}_changelist')}?run_id__exact={run.pk}"


def rejects_address(run: Run, **narrowed: str) -> str:
    """Return the address of the run's list of rejects, or "" for a dry run, which leaves none."""
    if run.dry_run:
        return ""
    return f"{reverse('admin:orchestration_reject_changelist')}?{urlencode({'run__exact': str(run.pk)} | narrowed)}"


def describe_rejects(run: Run, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group of rejects from the run's document, with label and reason in the active language and the address of its list."""
    rule, params = group["rule"], group["params"]
    words = {"label": render_label(rule, _), "reason": render_reason(rule, params, _)}
    worth = Decimal(group["amount"]) if group.get("amount") else None
    return {**group, **words, "worth": worth, "href": rejects_address(run, table__exact=group["table"], rule__exact=rule)}


def urgency(task: Task) -> tuple[int, bool, int]:
    return URGENCY.index(State(task.state)), task.attempt < 2, task.pk


def earlier_attempts(task: Task, attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the unsuccessful attempts, without the last one where the task's own row shows it."""
    shown = None if task.state in (State.QUEUED, State.RUNNING, State.SUCCEEDED) else task.started_at
    return [attempt for attempt in attempts if attempt.task_id == task.pk and attempt.started_at != shown]


def list_details(run: Run) -> Iterable[Detail | None]:
    """Yield how the run was requested, and its times."""
    mode = run.get_mode_display()
    yield Detail(_("Mode"), _("%(mode)s, dry run") % {"mode": mode} if run.dry_run else mode)
    yield Detail(_("Window"), describe_window(run.mode, run.window_start, run.window_end))
    yield text_detail(_("Orders read"), describe_found(run))
    yield Detail(_("Requested by"), f"{run.requested_by} ({run.get_trigger_display()})")
    yield text_detail(_("Reason"), run.reason)
    yield text_detail(_("Cancelled by"), run.cancelled_by)
    yield text_detail(_("Accepted by"), f"{run.accepted_by}: {run.accepted_because}" if run.accepted_by else "")
    yield text_detail(_("Requested at"), format_instant(run.created_at))
    yield text_detail(_("Started"), format_instant(run.started_at))
    yield text_detail(_("Finished"), format_instant(run.finished_at))
    published = run.state == State.SUCCEEDED and not run.dry_run
    yield text_detail(_("High-water mark"), format_instant(run.high_water_mark) if published else "")
    yield text_detail(_("Worker"), run.worker)
    yield text_detail(_("Last heartbeat"), format_instant(run.heartbeat_at) if run.is_active else "")
    yield text_detail(_("Code version"), run.code_version)
    yield run_detail(_("Overlaps"), run.overlaps_id)
    yield run_detail(_("Rerun of"), run.rerun_of_id)


def format_instant(instant: datetime | None) -> str:
    """Return the instant to the second, to be compared with logs."""
    return date_format(timezone.localtime(instant), "j E Y, H:i:s") if instant else ""


def text_detail(name: str, value: Any) -> Detail | None:
    return Detail(name, value) if value else None


def run_detail(name: str, number: int | None) -> Detail | None:
    return Detail(name, _("Run %s") % number, reverse("admin:orchestration_run_change", args=[number])) if number else None
