"""A broker that keeps its messages, and what the tests of the ledger do again and again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

from django.db import connections
from django.utils import timezone

from apps.orchestration.models import Mode, Run, Stage, Task, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.worker import tasks
from apps.warehouse.models import FactSales, Load


class FakeBroker:
    """Keeps the ids of the messages that would go to the broker, and delivers them on request."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, task_id: int, stage: str) -> None:
        assert Task.objects.get(pk=task_id).stage == stage
        self.sent.append(task_id)

    def take(self) -> list[int]:
        """What has been sent since it was last asked."""
        taken, self.sent = self.sent, []
        return taken

    def work(self) -> None:
        """As one worker would, message after message, until no more come."""
        for _ in range(200):
            if not self.sent:
                return
            tasks.execute(self.sent.pop(0))
        raise AssertionError("messages without an end")

    def work_until(self, stage: Stage) -> Task:
        """Until only tasks of this stage are to be done; the first of them. Its message stays."""
        for _ in range(200):
            waiting = [Task.objects.get(pk=number) for number in self.sent]
            others = [task for task in waiting if task.stage != stage]
            if not others:
                return waiting[0]
            self.sent.remove(others[0].pk)
            tasks.execute(others[0].pk)
        raise AssertionError(f"no {stage}")


def asked(mode: Mode = Mode.FULL, trigger: Trigger = Trigger.CLI, **options: Any) -> Run:
    """A run for the workers."""
    return start_run(mode, trigger, "test", queue=True, **options)


def fresh(row: Any) -> Any:
    """As the database has it now."""
    return type(row).objects.get(pk=row.pk)


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """The same call in so many threads, all let go at the same moment."""
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


def star() -> tuple[list[tuple[Any, ...]], int]:
    """Every fact, and how many runs were published."""
    return list(FactSales.objects.order_by("pk").values_list()), Load.objects.count()
