"""Which tasks of a run may start now, and which of them first."""

from datetime import timedelta

from django.conf import settings

from apps.etl.tables import FACT_TABLES
from apps.orchestration import clock
from apps.orchestration.models import Run, Stage, State, Task, Trigger

STAGES = (Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM, Stage.LOAD)
BACKOFF = 4  # each retry delay is so many times the one before


def ready_tasks(run: Run) -> list[Task]:
    """Return the queued tasks that wait for no other task.

    Dimensions are extracted after all facts (children before parents), a transform waits for its slice's extract, the load for all.
    """
    unfinished = list(run.tasks.exclude(state=State.SUCCEEDED))
    slices = {(task.stage, task.subject, task.low) for task in unfinished}
    facts_unread = any(stage == Stage.EXTRACT and subject in FACT_TABLES for stage, subject, _ in slices)
    return [task for task in unfinished if task.state == State.QUEUED and may_start(task, slices, facts_unread, len(unfinished))]


def may_start(task: Task, unfinished_slices: set[tuple[str, str, int | None]], facts_unread: bool, unfinished: int) -> bool:
    if task.stage == Stage.PLAN:
        return True
    if task.stage == Stage.EXTRACT:
        return task.subject in FACT_TABLES or not facts_unread
    if task.stage == Stage.TRANSFORM:
        return (Stage.EXTRACT, task.subject, task.low) not in unfinished_slices
    return unfinished == 1


def priority(task: Task) -> tuple[int, bool]:
    """Return a sort key: first tasks that read the sources, to release them early; then dimensions, lest a large one be the last."""
    return STAGES.index(Stage(task.stage)), task.subject in FACT_TABLES and task.stage == Stage.TRANSFORM


def seconds_until_ready(tasks: list[Task]) -> float:
    """Return the seconds until the first of these tasks may be attempted."""
    if not any(task.not_before for task in tasks):
        return 0.0
    now = clock.now()
    return max(0.0, min((((task.not_before or now) - now).total_seconds() for task in tasks), default=0.0))


def retry_delay(task: Task) -> timedelta:
    """Return the wait before another attempt: growing seconds for a run that a person waits for, minutes for a scheduled one."""
    if task.run.trigger == Trigger.SCHEDULE:
        return timedelta(seconds=settings.ETL_SCHEDULED_RETRY_SECONDS)
    return timedelta(seconds=settings.ETL_RETRY_SECONDS * BACKOFF ** (task.attempt - 1))
