"""Which tasks of a run may start now, which of them first, and who takes it: one row for each question, however many tasks there are."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import batched
from typing import Any, NamedTuple
from uuid import uuid4

from django.apps import AppConfig
from django.conf import settings
from django.db import connections
from django.db.models import QuerySet

from apps.orchestration.models import (
    ACTIVE,
    WAITS_FOR_GROUPS,
    WAITS_FOR_SLICES,
    Group,
    Run,
    Stage,
    State,
    Task,
    TaskCount,
    Trigger,
)
from techmarket.roles import read_schema

BACKOFF = 4  # each retry delay is so many times the one before
TASKS_PER_INSERT = 2_000
# What Task.claim_for does with a task that is known, with the next one. As one statement whose text is fixed, and one query for the row, a
# claim takes 3.5 ms of a busy processor; as three queries that Django composes, 8.3. Workers skip the rows that others are claiming.
CLAIM = """
UPDATE orchestration_task SET state = 'running', claim = %s, worker = %s, attempt = attempt + 1, started_at = {now}, heartbeat_at = {now},
    not_before = NULL, finished_at = NULL, cause = '""', cause_kind = ''
WHERE id = (
    SELECT t.id FROM orchestration_task AS t JOIN orchestration_run AS r ON r.id = t.run_id
    WHERE t.run_id = %s AND t.state = 'queued' AND t.waits_for = 0 AND {when} AND t."group" <= %s
        AND r.state IN ('queued', 'running') AND r.cancelled_by = ''
    ORDER BY t.not_before, t."group", t.id LIMIT 1 {lock}
) AND state = 'queued'
RETURNING id
"""
# Only the owner of a table can analyze it, and workers are not (techmarket/roles.py).
ANALYZE_TASKS = """
CREATE OR REPLACE FUNCTION orchestration_analyze_tasks() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS 'ANALYZE orchestration_task';
REVOKE EXECUTE ON FUNCTION orchestration_analyze_tasks() FROM PUBLIC;
"""
UNDELAYED, DUE = "t.not_before IS NULL", "t.not_before <= {now}"
DIALECTS = {
    "postgresql": {"now": "STATEMENT_TIMESTAMP()", "lock": "FOR UPDATE OF t SKIP LOCKED"},
    "sqlite": {"now": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')", "lock": ""},  # one writer at a time
}


class PlannedTask(NamedTuple):
    """A task that is not saved yet. 40 000 of them take 5 MB, as rows of the ledger 40."""

    stage: Stage
    subject: str = ""
    low: int | None = None
    high: int | None = None

    @property
    def group(self) -> Group:
        return Group.of(self.stage, self.subject)


def save_tasks(run: Run, tasks: Sequence[PlannedTask]) -> None:
    """Queue the tasks of a run, each with the number of what it waits for, and count them by stage and table."""
    counts = Counter((task.stage, task.subject) for task in tasks)
    TaskCount.objects.bulk_create(
        TaskCount(run=run, stage=stage, subject=subject, tasks=count, unfinished=count) for (stage, subject), count in counts.items()
    )
    for chunk in batched(make_tasks(run, tasks, counts), TASKS_PER_INSERT):
        Task.objects.bulk_create(chunk)
    if len(tasks) > TASKS_PER_INSERT:
        analyze_tasks()


def create_functions(sender: AppConfig, using: str, **kwargs: Any) -> None:
    if using == "default" and connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute(ANALYZE_TASKS.format(schema=read_schema(cursor)))


def analyze_tasks() -> None:
    """Let PostgreSQL know how many there are now, before the commit.

    Autovacuum, if it looks while they are inserted, counts none, and then each claim sorts all that may start: 0.2 s for 40 000.
    """
    if connections["default"].vendor == "postgresql":
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT orchestration_analyze_tasks()")


def make_tasks(run: Run, tasks: Sequence[PlannedTask], counts: Iterable[tuple[Stage, str]]) -> Iterator[Task]:
    counted = Counter(Group.of(stage, subject) for stage, subject in counts)
    closed = {group: sum(counted[earlier] for earlier in WAITS_FOR_GROUPS.get(group, ())) for group in Group}
    parts = count_parts(tasks)
    for task in tasks:
        yield Task(run=run, group=task.group, waits_for=closed[task.group] + parts[task], **task._asdict())


def count_parts(tasks: Sequence[PlannedTask]) -> "Counter[PlannedTask]":
    """Return by task how many tasks of the stage before it are on its slice, or on parts of its slice."""
    slices = defaultdict[tuple[str, str], list[PlannedTask]](list)
    for task in tasks:
        slices[task.stage, task.subject].append(task)
    parts = Counter[PlannedTask]()
    for stage, earlier in WAITS_FOR_SLICES.items():
        for subject in {subject for _stage, subject in slices if _stage == stage}:
            later = sorted(slices[stage, subject], key=begin)
            begins = [begin(task) for task in later]
            parts.update(later[max(0, bisect_right(begins, begin(task)) - 1)] for task in slices[earlier, subject])
    return parts


def begin(task: PlannedTask) -> float:
    return float("-inf") if task.low is None else task.low


def ready_tasks(run: Run) -> "QuerySet[Task]":
    """Return the queued tasks of an active run that wait for no other, the most urgent first, also those that are to be retried later."""
    active = run.tasks.filter(run__state__in=ACTIVE, run__cancelled_by="")
    return active.filter(state=State.QUEUED, waits_for=0).order_by("not_before", "group", "pk")


def claim_next_task(run: Run, worker: str, last: Group = Group.LOAD) -> Task | None:
    """Claim the most urgent task up to this group that may start, one to be retried where no other is left. None: none may start."""
    connection = connections["default"]
    claim = Task._meta.get_field("claim").get_db_prep_value(uuid4(), connection)
    for when in (UNDELAYED, DUE):
        sql = CLAIM.replace("{when}", when).format(**DIALECTS[connection.vendor])
        with connection.cursor() as cursor:
            cursor.execute(sql, [claim, worker, run.pk, last])
            claimed = cursor.fetchall()
        if claimed:
            return Task.objects.select_related("run").get(pk=claimed[0][0])
    return None


def retry_delay(task: Task) -> timedelta:
    """Return the wait before another attempt: growing seconds for a run that a person waits for, minutes for a scheduled one."""
    if task.run.trigger == Trigger.SCHEDULE:
        return timedelta(seconds=settings.ETL_SCHEDULED_RETRY_SECONDS)
    return timedelta(seconds=settings.ETL_RETRY_SECONDS * BACKOFF ** (task.attempt - 1))
