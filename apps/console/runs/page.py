"""The page of a run: what the ledger says of it, in the order in which whoever is on duty asks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.console.runs.comparison import comparison
from apps.console.runs.log import log
from apps.console.runs.timeline import strip
from apps.etl.tables import FACT_TABLES
from apps.etl.transform.rules import render_label, render_reason
from apps.orchestration.models import Attempt, Blame, RowCount, Run, State, Task
from apps.orchestration.results import document, moved_months
from apps.orchestration.tally import WRITTEN, of_document, progress
from apps.orchestration.window import in_words

# How a state looks, wherever one is shown: unfold's label colours.
COLOURS = {
    State.QUEUED: "info",
    State.RUNNING: "info",
    State.SUCCEEDED: "success",
    State.FAILED: "danger",
    State.LOST: "danger",
    State.CANCELLED: "warning",
    State.SKIPPED: "default",
}
EVERY = 2  # seconds between two looks at a run that is active
COLUMNS = ("read", "inserted", "updated", "unchanged", "deleted", "derived", "filtered", "rejected")
SOURCE_COLUMNS = ("read", "filtered", "rejected")
MOST_REJECTS = 20
MOST_TASKS = 100
BLAMES = {
    Blame.DATA: gettext_lazy("The data is to blame: the sources hold what cannot be published. Mend it there, then run again."),
    Blame.MACHINE: gettext_lazy("The machines are to blame: a server, a disk or the network. The data and the settings are as they were."),
    Blame.CONFIGURATION: gettext_lazy("The configuration is to blame: a setting, a password or a server that is not ready."),
}
# What deserves a look comes first.
URGENCY = (State.FAILED, State.LOST, State.RUNNING, State.CANCELLED, State.QUEUED, State.SUCCEEDED)


@dataclass(frozen=True)
class Row:
    """A table's counts, in the order of COLUMNS; None where a column makes no sense. `href`: the rows that the run wrote.

    `source`: it was read for the warehouse's tables.
    """

    table: str
    counts: list[tuple[str, int | None]]
    source: bool = False
    href: str = ""


@dataclass(frozen=True)
class Parameter:
    name: str
    value: Any
    href: str = ""


def page(run: Run, person: Any) -> dict[str, Any]:
    """A dozen queries, however large the run; the numbers are those of `run_etl --json`."""
    told = document(run)
    tally = of_document(told)
    words = {field.name: field.verbose_name for field in RowCount._meta.concrete_fields}
    tasks = list(run.tasks.defer("claim", "session", "published_at"))
    attempts = list(run.attempts.all())
    counted = list(rows(run, person, told))
    return {
        "tally": tally,
        "colour": COLOURS[State(run.state)],
        "lasted": duration(run),
        "forgotten": settings.ETL_KEEP_DETAILS_DAYS if forgotten(run, tasks) else 0,
        "progress": progress(run) if run.is_active else None,
        "every": EVERY if run.is_active else None,
        "blame": BLAMES.get(Blame(run.blame)) if run.blame else "",
        "strip": strip(tasks),
        "columns": [(name, words[name]) for name in COLUMNS],
        "rows": counted,
        "facts": next((row.href for row in counted if row.table in FACT_TABLES and row.href), ""),
        "checks": sorted(told["checks"], key=lambda check: (check["passed"], not check["blocking"])),
        "rules": [rejected_group(run, group) for group in told["rejects"]],
        "rejects": list(run.rejects.defer("raw")[:MOST_REJECTS]) if tally.rejected else [],
        "all_rejects": rejects_of(run),
        "tasks": [(task, COLOURS[State(task.state)], earlier(task, attempts)) for task in sorted(tasks, key=urgency)[:MOST_TASKS]],
        "more_tasks": max(len(tasks) - MOST_TASKS, 0),
        "log": log(run, tasks, attempts),
        "comparison": comparison(run, tally) if run.finished_at and run.state != State.SKIPPED else None,
        "months": [(date.fromisoformat(f"{month}-01"), *amounts) for month, *amounts in moved_months(told)] if run.dry_run else [],
        "parameters": list(filter(None, parameters(run))),
    }


def duration(run: Run) -> timedelta:
    """To its end, or until now."""
    return (run.finished_at or timezone.now()) - run.started_at if run.started_at else timedelta()


def forgotten(run: Run, tasks: Sequence[Task]) -> bool:
    """A year after its end nothing but a run's own row is left; every run that was carried out had a task."""
    return run.finished_at is not None and not tasks and not run.dry_run and run.state != State.SKIPPED


def rows(run: Run, person: Any, told: Mapping[str, Any]) -> Iterator[Row]:
    for table, counts in told["tables"].items():
        wrote = any(counts[name] for name in WRITTEN if name != "deleted")
        yield Row(table, cells(counts, COLUMNS), href=written_by(run, person, table) if wrote else "")
    for table, counts in told["sources"].items():
        yield Row(table, cells(counts, SOURCE_COLUMNS), source=True)


def cells(counts: Mapping[str, int], known: Iterable[str]) -> list[tuple[str, int | None]]:
    return [(name, counts[name] if name in known else None) for name in COLUMNS]


def written_by(run: Run, person: Any, table: str) -> str:
    """The list of the rows of a table that this run was the last to write; for who may see them."""
    model = {model._meta.db_table: model for model in apps.get_app_config("dwh").get_models()}.get(table)
    if run.dry_run or model is None or not person.has_perm(f"dwh.view_{model._meta.model_name}"):
        return ""
    return f"{reverse(f'admin:dwh_{model._meta.model_name}_changelist')}?run_id__exact={run.pk}"


def rejects_of(run: Run, **narrowed: str) -> str:
    """A dry run leaves none behind."""
    if run.dry_run:
        return ""
    return f"{reverse('admin:orchestration_reject_changelist')}?{urlencode({'run__exact': str(run.pk)} | narrowed)}"


def rejected_group(run: Run, group: Mapping[str, Any]) -> dict[str, Any]:
    """A group of rejects from the run's document, with label and reason in the active language and the address of its list."""
    rule, params = group["rule"], group["params"]
    words = {"label": render_label(rule, _), "reason": render_reason(rule, params, _)}
    return {**group, **words, "href": rejects_of(run, table__exact=group["table"], rule__exact=rule)}


def urgency(task: Task) -> tuple[int, bool, int]:
    return URGENCY.index(State(task.state)), task.attempt < 2, task.pk


def earlier(task: Task, attempts: Iterable[Attempt]) -> list[Attempt]:
    """Those that came to nothing, but for the last one where the task's own row tells of that."""
    told = None if task.state in (State.QUEUED, State.RUNNING, State.SUCCEEDED) else task.started_at
    return [attempt for attempt in attempts if attempt.task_id == task.pk and attempt.started_at != told]


def parameters(run: Run) -> Iterable[Parameter | None]:
    """As it was asked for, and what became of that."""
    mode = run.get_mode_display()
    yield Parameter(_("Mode"), _("%(mode)s, dry run") % {"mode": mode} if run.dry_run else mode)
    yield Parameter(_("Window"), in_words(run.mode, run.window_start, run.window_end))
    yield Parameter(_("Asked by"), f"{run.asked_by} ({run.get_trigger_display()})")
    yield said(_("Reason"), run.reason)
    yield said(_("Cancelled by"), run.cancelled_by)
    yield said(_("Asked for"), instant(run.created_at))
    yield said(_("Started"), instant(run.started_at))
    yield said(_("Ended"), instant(run.finished_at))
    yield said(_("High-water mark"), instant(run.high_water_mark))
    yield said(_("Worker"), run.worker)
    yield said(_("Last heartbeat"), instant(run.heartbeat_at) if run.is_active else "")
    yield said(_("Code version"), run.code_version)
    yield other(_("Overlaps"), run.overlaps_id)
    yield other(_("Repeats"), run.repeats_id)


def instant(of: datetime | None) -> str:
    """To the second: whoever reads logs beside the page needs it."""
    return date_format(timezone.localtime(of), "j E Y, H:i:s") if of else ""


def said(name: str, value: Any) -> Parameter | None:
    return Parameter(name, value) if value else None


def other(name: str, number: int | None) -> Parameter | None:
    return Parameter(name, _("Run %s") % number, reverse("admin:orchestration_run_change", args=[number])) if number else None
