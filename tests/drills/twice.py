"""Each message delivered twice, 200 times, and two beats for ten due instants: ten runs, every slice executed once."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import connections
from django.db.models import Count

from apps.orchestration import schedules
from apps.orchestration.models import Run, Schedule, ScheduledRun, State, Task
from tests.drills.ground import change_shop, nothing_left, promise, right_star, succeeded, workers

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
        fired_by_two(NAMES[number % 2], due_instant(number))
    runs = Run.objects.filter(pk__gt=before)
    states = dict(runs.order_by().values_list("state").annotate(Count("pk")))
    promise(states == {State.SUCCEEDED: instants}, f"{instants} due instants made runs {states}")
    promise(ScheduledRun.objects.filter(run__in=runs).count() == instants, "a due instant has no run or two")
    tasks = Task.objects.filter(run__in=runs)
    again = tasks.exclude(attempt=1)
    promise(
        not again.exists(),
        f"executed more than once: {[f'{task} {task.attempt}' for task in again[:3]]}",
    )
    nothing_left()
    right_star()
    yield f"{instants} due instants, each fired by two at once: {instants} runs succeeded, none skipped or doubled"
    yield f"{tasks.count()} tasks, the message of each delivered twice: each was executed once"


def due_instant(number: int) -> datetime:
    """Weekly on Sundays at 03:00, daily at 02:00, UTC."""
    return (
        datetime(2027, 1, 3, 3, tzinfo=UTC) + timedelta(weeks=number)
        if number % 2 == 0
        else datetime(2027, 1, 4, 2, tzinfo=UTC) + timedelta(weeks=number)
    )


def fired_by_two(name: str, scheduled_for: datetime) -> None:
    """Two beats at the same moment, and one that comes a minute late."""
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
    won = [due for due in fired if due]
    promise(len(won) == 1 and won[0].run, f"{name} at {scheduled_for}: fired {len(won)} times")
    succeeded(Run.objects.get(pk=won[0].run_id))
