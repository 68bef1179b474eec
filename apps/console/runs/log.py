"""The log of a run: the ledger's rows as lines in chronological order."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum
from django.utils.translation import gettext as _

from apps.console.runs.timeline import FAILED_STATES
from apps.orchestration.models import Attempt, RowCount, Run, Stage, State, Task
from techmarket.formats import localize_count, localize_duration
from techmarket.messages import translate

MAX_LINES = 200
# The order of lines with the same instant.
FIRST, MIDDLE, LAST = range(3)
COLUMNS = ("read", "filtered", "rejected", "inserted", "updated", "unchanged", "deleted", "derived")


@dataclass(frozen=True)
class Line:
    at: datetime
    order: int
    text: str
    is_failure: bool = False


@dataclass(frozen=True)
class Log:
    """The newest lines, oldest first, and the number of earlier ones."""

    lines: Sequence[Line]
    earlier: int


def build_log(run: Run, tasks: Sequence[Task], attempts: Iterable[Attempt]) -> Log:
    lines = [*describe_run(run), *describe_attempts(tasks, attempts), *describe_tasks(run, tasks)]
    lines.sort(key=lambda line: (line.at, line.order))
    return Log(lines[-MAX_LINES:], max(len(lines) - MAX_LINES, 0))


def describe_run(run: Run) -> Iterator[Line]:
    requested = _("Requested by %(person)s (%(trigger)s)") % {"person": run.requested_by, "trigger": run.get_trigger_display()}
    yield Line(run.created_at, FIRST, f"{requested}: {run.reason}" if run.reason else requested)
    if run.started_at:
        yield Line(run.started_at, FIRST, _("Run started on %s") % run.worker if run.worker else _("Run started"))
    if run.finished_at:
        yield Line(run.finished_at, LAST, f"{run}: {run.get_state_display()}. {translate(run.cause)}".strip(), run.state in FAILED_STATES)


def describe_attempts(tasks: Iterable[Task], attempts: Iterable[Attempt]) -> Iterator[Line]:
    """Yield the unsuccessful attempts. Between the two queries of an active run tasks may appear: the next refresh shows them."""
    names = {task.pk: task_name(task) for task in tasks}
    for attempt in (attempt for attempt in attempts if attempt.task_id in names):
        params = {
            "task": names[attempt.task_id],
            "number": localize_count(attempt.number),
            "worker": attempt.worker,
            "cause": translate(attempt.cause),
        }
        yield Line(attempt.ended_at, MIDDLE, _("%(task)s: attempt %(number)s on %(worker)s failed. %(cause)s") % params, is_failure=True)


def describe_tasks(run: Run, tasks: Iterable[Task]) -> Iterator[Line]:
    """Yield the tasks that are running or have succeeded; the others have attempts."""
    landed = dict(run.batches.order_by("task").values_list("task").annotate(Sum("rows")))
    counts = defaultdict(list)
    for count in run.row_counts.all():
        counts[count.task_id].append(describe_counts(count))
    for task in tasks:
        if task.state == State.RUNNING and task.started_at:
            yield Line(task.started_at, MIDDLE, _("%(task)s: running on %(worker)s") % {"task": task_name(task), "worker": task.worker})
        if task.state == State.SUCCEEDED and task.started_at and task.finished_at:
            params = {"task": task_name(task), "duration": localize_duration(task.finished_at - task.started_at), "worker": task.worker}
            text = _("%(task)s: done in %(duration)s on %(worker)s") % params
            if task.stage == Stage.EXTRACT and task.pk in landed:
                text += "; " + _("rows extracted: %s") % localize_count(landed[task.pk])
            yield Line(task.finished_at, MIDDLE, "; ".join([text, *counts[task.pk]]))


def task_name(task: Task) -> str:
    return " ".join(filter(None, [task.get_stage_display(), task.subject, task.slice]))


def describe_counts(count: RowCount) -> str:
    """Return the counts that are not zero."""
    words = {field.name: field.verbose_name for field in RowCount._meta.concrete_fields}
    parts = [f"{words[column]} {localize_count(getattr(count, column))}" for column in COLUMNS if getattr(count, column)]
    return f"{count.table}: " + (", ".join(parts) or _("no rows"))
