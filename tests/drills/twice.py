"""Each message delivered twice, 200 times, and two beats for ten scheduled instants: ten runs, no slice executed twice."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import connections
from django.db.models import Count

from apps.orchestration import schedules
from apps.orchestration.models import Run, Schedule, ScheduledRun, State, Task
from tests.drills.harness import change_shop, require, require_correct_warehouse, require_nothing_left, wait_for_success, workers

NAMES = ("techmarket-etl-weekly-full", "techmarket-etl-daily")
MINUTE = timedelta(minutes=1)


def drill(times: int) -> Iterator[str]:
    import tests.drills.doubled  # noqa: F401  from here on, this process too sends each message twice

    instants = times or 10
    workers(2, app="tests.drills.doubled")
    Schedule.objects.update(enabled_since=datetime(2027, 1, 1, tzinfo=UTC))
    last = Run.objects.first()
    before = last.pk if last else 0
    for number in range(instants):
        change_shop(seed=number)
        fire_concurrently(NAMES[number % 2], instant_of(number))
    runs = Run.objects.filter(pk__gt=before)
    states = dict(runs.order_by().values_list("state").annotate(Count("pk")))
    require(states == {State.SUCCEEDED: instants}, f"{instants} scheduled instants made runs {states}")
    require(ScheduledRun.objects.filter(run__in=runs).count() == instants, "an instant has no run, or two")
    tasks = Task.objects.filter(run__in=runs)
    retried = tasks.filter(attempt__gt=1)
    require(
        not retried.exists(),
        f"executed more than once: {[f'{task} {task.attempt}' for task in retried[:3]]}",
    )
    require_nothing_left()
    require_correct_warehouse()
    yield f"{instants} scheduled instants, each fired by two at once: {instants} runs succeeded, none skipped or doubled"
    yield f"{tasks.count()} tasks, the message of each delivered twice: none was executed twice"


def instant_of(number: int) -> datetime:
    """Return an instant of the weekly schedule (Sunday 03:00 UTC) for even numbers, of the daily one (02:00) for odd ones."""
    return (
        datetime(2027, 1, 3, 3, tzinfo=UTC) + timedelta(weeks=number)
        if number % 2 == 0
        else datetime(2027, 1, 4, 2, tzinfo=UTC) + timedelta(weeks=number)
    )


def fire_concurrently(name: str, scheduled_for: datetime) -> None:
    """Fire the instant from two beats at the same moment, and from a third a minute later."""
    barrier = threading.Barrier(2)
    fired: list[ScheduledRun | None] = []

    def beat() -> None:
        barrier.wait()
        fired.append(schedules.fire(name, now=scheduled_for))
        connections.close_all()

    beats = [threading.Thread(target=beat) for _ in range(2)]
    for thread in beats:
        thread.start()
    for thread in beats:
        thread.join()
    fired.append(schedules.fire(name, now=scheduled_for + MINUTE))
    fired_runs = [scheduled for scheduled in fired if scheduled]
    require(len(fired_runs) == 1 and fired_runs[0].run, f"{name} at {scheduled_for}: fired {len(fired_runs)} times")
    wait_for_success(Run.objects.get(pk=fired_runs[0].run_id))
