"""A fake broker, and helpers that the ledger's tests share."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Count, Q
from django.utils import timezone

from apps.orchestration.models import Mode, Run, Stage, State, Task, TaskCount, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.worker import loop, tasks
from apps.orchestration.worker.landing import land
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import Landed
from apps.warehouse.models import FactSales, Load


class FakeBroker:
    """Records the task ids of the messages sent to the broker, and delivers them on request."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, task_id: int, stage: str) -> None:
        assert Task.objects.get(pk=task_id).stage == stage
        self.sent.append(task_id)

    def take_sent(self) -> list[int]:
        """Return the task ids sent since the last call, without delivering them."""
        taken, self.sent = self.sent, []
        return taken

    def deliver_all(self) -> None:
        """Execute the task of each message, as one worker would, until there are no more."""
        for _ in range(200):
            if not self.sent:
                return
            tasks.execute(self.sent.pop(0))
        raise AssertionError("the messages do not end")

    def deliver_until(self, stage: Stage) -> Task:
        """Deliver messages until only tasks of this stage remain. Return the first of them; its message stays undelivered."""
        for _ in range(200):
            waiting = [Task.objects.get(pk=number) for number in self.sent]
            others = [task for task in waiting if task.stage != stage]
            if not others:
                return waiting[0]
            self.sent.remove(others[0].pk)
            tasks.execute(others[0].pk)
        raise AssertionError(f"no task of stage {stage} was sent")


def start_queued_run(mode: Mode = Mode.FULL, trigger: Trigger = Trigger.CLI, **options: Any) -> Run:
    """Start a run that workers are to execute."""
    return start_run(mode, trigger, "test", queue=True, **options)


def finish(task: Task) -> None:
    """Let the task succeed without executing it."""
    assert task.claim_for("test")
    with transaction.atomic():
        assert task.succeed()
        task.count_finished()


def requeue_before_landing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next worker that lands be late: the reaper has requeued its task by then, and another worker has done it."""
    woken: list[Task] = []

    def land_after_requeue(claimed: Task, landed: Landed) -> None:
        if not woken:
            woken.append(claimed)
            Task.objects.filter(pk=claimed.pk).update(heartbeat_at=ago(seconds=31))
            reap()
            tasks.execute(claimed.pk)
        land(claimed, landed)

    monkeypatch.setattr(loop, "land", land_after_requeue)


def count_tasks(run: Run) -> None:
    """Count the run's tasks as they are, where a test has made them or set their states by itself."""
    run.task_counts.all().delete()
    unfinished = Count("pk", filter=~Q(state=State.SUCCEEDED))
    for counts in run.tasks.order_by().values("stage", "subject").annotate(tasks=Count("pk"), unfinished=unfinished):
        TaskCount.objects.create(run=run, **counts)


def fresh(row: Any) -> Any:
    """Return the row as it is in the database now."""
    return type(row).objects.get(pk=row.pk)


def run_concurrently(count: int, call: Callable[[], Any]) -> list[Any]:
    """Make the same call in `count` threads at the same moment, and return their results."""
    start = Barrier(count)

    def one() -> Any:
        try:
            start.wait(timeout=10)
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return [each.result(timeout=300) for each in [pool.submit(one) for _ in range(count)]]


def ago(**amount: float) -> Any:
    return timezone.now() - timedelta(**amount)


def read_warehouse() -> tuple[list[tuple[Any, ...]], int]:
    """Return every fact row, and the number of published loads."""
    return list(FactSales.objects.order_by("pk").values_list()), Load.objects.count()
