"""The log of a run: the ledger's rows as lines, in the order in which they came about."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum
from django.utils.translation import gettext as _

from apps.console.runs.timeline import BAD
from apps.orchestration.models import Attempt, RowCount, Run, Stage, State, Task
from techmarket.amounts import lasting, whole
from techmarket.messages import translate

MOST = 200
# An instant that several lines share: what was asked comes before what came of it.
ASKED, HAPPENED, ENDED = range(3)
COLUMNS = ("read", "filtered", "rejected", "inserted", "updated", "unchanged", "deleted", "derived")


@dataclass(frozen=True)
class Line:
    at: datetime
    order: int
    said: str
    is_bad: bool = False


@dataclass(frozen=True)
class Log:
    """The newest lines, oldest first, and how many came before."""

    lines: Sequence[Line]
    earlier: int


def log(run: Run, tasks: Sequence[Task], attempts: Iterable[Attempt]) -> Log:
    lines = sorted([*of_run(run), *of_attempts(tasks, attempts), *of_tasks(run, tasks)], key=lambda line: (line.at, line.order))
    return Log(lines[-MOST:], max(len(lines) - MOST, 0))


def of_run(run: Run) -> Iterator[Line]:
    asked = _("Asked for by %(person)s (%(trigger)s)") % {"person": run.requested_by, "trigger": run.get_trigger_display()}
    yield Line(run.created_at, ASKED, f"{asked}: {run.reason}" if run.reason else asked)
    if run.started_at:
        yield Line(run.started_at, ASKED, _("The run started at %s") % run.worker if run.worker else _("The run started"))
    if run.finished_at:
        yield Line(run.finished_at, ENDED, f"{run}: {run.get_state_display()}. {translate(run.cause)}".strip(), run.state in BAD)


def of_attempts(tasks: Iterable[Task], attempts: Iterable[Attempt]) -> Iterator[Line]:
    """Of a run at work, tasks may have come or gone between the two looks at the ledger: the next page has them."""
    names = {task.pk: name(task) for task in tasks}
    for attempt in (attempt for attempt in attempts if attempt.task_id in names):
        told = {
            "task": names[attempt.task_id],
            "number": whole(attempt.number),
            "worker": attempt.worker,
            "cause": translate(attempt.cause),
        }
        yield Line(
            attempt.ended_at, HAPPENED, _("%(task)s: attempt %(number)s at %(worker)s came to nothing. %(cause)s") % told, is_bad=True
        )


def of_tasks(run: Run, tasks: Iterable[Task]) -> Iterator[Line]:
    """Those that are at work or have succeeded; of the others their attempts tell."""
    landed = dict(run.batches.order_by("task").values_list("task").annotate(Sum("rows")))
    counts = defaultdict(list)
    for count in run.row_counts.all():
        counts[count.task_id].append(describe_counts(count))
    for task in tasks:
        if task.state == State.RUNNING and task.started_at:
            yield Line(task.started_at, HAPPENED, _("%(task)s: at work at %(worker)s") % {"task": name(task), "worker": task.worker})
        if task.state == State.SUCCEEDED and task.started_at and task.finished_at:
            told = {"task": name(task), "lasted": lasting(task.finished_at - task.started_at), "worker": task.worker}
            said = _("%(task)s: done after %(lasted)s at %(worker)s") % told
            if task.stage == Stage.EXTRACT and task.pk in landed:
                said += "; " + _("rows landed: %s") % whole(landed[task.pk])
            yield Line(task.finished_at, HAPPENED, "; ".join([said, *counts[task.pk]]))


def name(task: Task) -> str:
    return " ".join(filter(None, [task.get_stage_display(), task.subject, task.slice]))


def describe_counts(count: RowCount) -> str:
    """All that is not nought of it."""
    words = {field.name: field.verbose_name for field in RowCount._meta.concrete_fields}
    told = [f"{words[column]} {whole(getattr(count, column))}" for column in COLUMNS if getattr(count, column)]
    return f"{count.table}: {', '.join(told) or _('no rows')}"
