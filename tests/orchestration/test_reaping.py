"""What dead workers and lost messages leave behind is found and put in order."""

from collections.abc import Callable

import pytest
from django.db import connections
from django.db.models import Count
from kombu.exceptions import OperationalError
from pytest_django.fixtures import Settings

from apps.orchestration import api
from apps.orchestration.models import CauseKind, Executor, Mode, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.worker import delivery, loop, tasks
from apps.orchestration.worker.landing import land
from apps.orchestration.worker.loop import execute_task
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import Landed
from apps.warehouse.models import Load
from tests.orchestration.harness import FakeBroker, ago, asked, at_once, fresh, star

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
Sent = list[tuple[str, list[int]]]


class Died(BaseException):
    """The process is gone: nothing after this is executed."""


def silent(task: Task, worker: str = "dead:1") -> Task:
    """The task is claimed by a worker that stopped sending heartbeats for longer than is allowed."""
    assert fresh(task).claim_for(worker)
    Run.objects.filter(pk=task.run_id, state=State.QUEUED).update(state=State.RUNNING, started_at=ago(minutes=1))
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=31))
    return fresh(task)


def test_silent_task_is_queued_again_and_sent(broker: FakeBroker) -> None:
    run = asked()
    task = broker.work_until(Stage.EXTRACT)
    broker.take()
    held = silent(task)
    reap()
    task = fresh(task)
    assert (task.state, task.attempt, task.claim) == (State.QUEUED, 1, None)
    assert task.cause.startswith("dead:1 stopped sending heartbeats at ")
    assert task.pk in broker.take() and fresh(run).state == State.RUNNING
    tasks.execute(task.pk)
    assert (fresh(task).state, fresh(task).attempt, fresh(task).cause) == (State.SUCCEEDED, 2, "")
    (lost,) = task.attempts.all()
    assert (lost.number, lost.worker, lost.cause, lost.cause_kind) == (1, "dead:1", task.cause, CauseKind.MACHINE)
    assert fresh(task).claim != held.claim


def test_task_that_was_heard_of_is_left_alone(broker: FakeBroker) -> None:
    asked()
    task = broker.work_until(Stage.EXTRACT)
    silent(task)
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=25))
    reap()
    assert fresh(task).state == State.RUNNING


def test_late_worker_lands_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wakes up after the reaper has given its task to somebody else."""
    run = asked()
    task = broker.work_until(Stage.EXTRACT)
    woken: list[Task] = []

    def later(mine: Task, landed: Landed) -> None:
        if not woken:
            woken.append(mine)
            Task.objects.filter(pk=mine.pk).update(heartbeat_at=ago(seconds=31))
            reap()
            tasks.execute(mine.pk)
        land(mine, landed)

    monkeypatch.setattr(loop, "land", later)
    tasks.execute(task.pk)
    assert (fresh(task).state, fresh(task).attempt, fresh(task).batches.count()) == (State.SUCCEEDED, 2, 3)
    broker.work()
    assert fresh(run).state == State.SUCCEEDED and star()[1] == 1


def test_attempts_used_up_is_lost(broker: FakeBroker, settings: Settings) -> None:
    run = asked()
    task = broker.work_until(Stage.EXTRACT)
    for attempt in range(1, settings.ETL_ATTEMPTS + 1):
        assert silent(task, f"dead:{attempt}").attempt == attempt
        reap()
    task, run = fresh(task), fresh(run)
    assert (task.state, task.cause_kind, run.state, run.cause_kind) == (State.LOST, CauseKind.MACHINE, State.LOST, CauseKind.MACHINE)
    assert run.cause == task.cause and run.cause.startswith("dead:3 stopped sending heartbeats at ")
    assert run.finished_at and asked().state == State.QUEUED, "the warehouse is free"


def test_resume_of_a_lost_run_has_all_its_attempts(broker: FakeBroker, settings: Settings) -> None:
    settings.ETL_ATTEMPTS = 1
    run = asked()
    silent(broker.work_until(Stage.LOAD))
    reap()
    broker.take()
    assert fresh(run).state == State.LOST
    api.resume_run(run.pk, queue=True)
    broker.work()
    assert fresh(run).state == State.SUCCEEDED and run.tasks.get(stage=Stage.LOAD).attempt == 1


@pytest.mark.parametrize("within", [True, False], ids=["within a task", "between two"])
def test_run_of_a_process_that_died_is_lost(within: bool) -> None:
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    Run.objects.update(worker="dead:1")
    if within:
        silent(run.tasks.get())
    Run.objects.update(heartbeat_at=ago(seconds=25))
    if not within:
        reap()
        assert fresh(run).is_active, "too early"
        Run.objects.update(heartbeat_at=ago(seconds=31))
    reap()
    run = fresh(run)
    assert (run.state, run.cause_kind) == (State.LOST, CauseKind.MACHINE) and run.cause.startswith("dead:1 stopped sending heartbeats")
    assert not run.tasks.filter(state=State.RUNNING).exists()


def test_every_new_run_reaps_first(broker: FakeBroker, settings: Settings) -> None:
    Run.objects.create(
        mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", executor=Executor.LOCAL, worker="dead:1", heartbeat_at=ago(seconds=31)
    )
    assert asked().state == State.QUEUED
    assert set(Run.objects.values_list("state", flat=True)) == {State.LOST, State.QUEUED}


@pytest.mark.parametrize("attempts", [1, 3])
def test_load_that_was_published_and_not_recorded_has_succeeded(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings, attempts: int
) -> None:
    settings.ETL_ATTEMPTS = attempts
    run = asked()
    task = Task.objects.select_related("run").get(pk=broker.work_until(Stage.LOAD).pk)

    def die(task: Task, landed: Landed) -> None:
        raise Died

    monkeypatch.setattr(loop, "land", die)
    with pytest.raises(Died), loop.Heartbeat(run.pk, "here:1") as heart:
        execute_task(task, heart)
    assert fresh(task).state == State.RUNNING and star()[1] == 1
    connections["dwh"].close()  # the reaper ends the session of the dead, which was ours
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=31))
    at_once(3, reap)
    assert (fresh(run).state, fresh(task).state, fresh(task).attempt) == (State.SUCCEEDED, State.SUCCEEDED, 1)
    counts = RowCount.objects.filter(task=task)
    assert {row.table: row.inserted for row in counts} == {table: row["inserted"] for table, row in Load.objects.get().counts.items()}
    assert counts.get(table="fact_sales").inserted == len(star()[0]) > 100
    assert not RowCount.objects.values("task", "table").annotate(n=Count("pk")).filter(n__gt=1)


def test_message_that_was_lost_is_sent_again(broker: FakeBroker) -> None:
    run = asked()
    task = run.tasks.get()
    assert broker.take() == [task.pk]
    Task.objects.update(message_sent_at=ago(seconds=55))
    reap()
    assert broker.take() == [], "it may still be on its way"
    Task.objects.update(message_sent_at=ago(seconds=61))
    reap()
    assert broker.take() == [task.pk]
    reap()
    assert broker.take() == []
    Task.objects.update(state=State.RUNNING, heartbeat_at=ago(), message_sent_at=ago(hours=1))
    reap()
    assert broker.take() == [], "somebody has it"


@pytest.mark.parametrize("error", [OperationalError("no broker"), ConnectionRefusedError(111, "refused"), TimeoutError("timed out")])
def test_broker_is_away_when_a_run_is_asked_for(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    sent: Sent = []

    def away(name: str, args: list[int]) -> None:
        raise error

    def there(name: str, args: list[int]) -> None:
        sent.append((name, args))

    monkeypatch.setattr(delivery.app, "send_task", away)
    run = asked()
    assert run.state == State.QUEUED and run.tasks.get().message_sent_at is None
    reap()
    assert fresh(run).state == State.QUEUED
    monkeypatch.setattr(delivery.app, "send_task", there)
    reap()
    assert sent == [("techmarket.plan", [run.tasks.get().pk])]
    assert run.tasks.get().message_sent_at


def test_messages_name_a_task_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: Sent = []
    monkeypatch.setattr(delivery.app, "send_task", lambda name, args: sent.append((name, args)))
    asked()
    seen: Sent = []
    for _ in range(100):
        if not sent:
            break
        name, args = sent.pop(0)
        seen.append((name, args))
        assert args == [Task.objects.get(pk=args[0], stage=name.removeprefix("techmarket.")).pk]
        perform: Callable[[int], None] = getattr(tasks, name.removeprefix("techmarket."))
        perform(*args)
    assert len(seen) == Task.objects.count() == len({args[0] for _, args in seen})
    assert Run.objects.get().state == State.SUCCEEDED


def test_heartbeats_are_told_by_the_control_database(broker: FakeBroker) -> None:
    """A worker's own clock may be wrong: the claim takes the database's."""
    task = asked().tasks.get()
    before = ago(milliseconds=1)  # SQLite's clock tells no more than these
    task.claim_for("somebody")
    assert task.heartbeat_at and before <= task.heartbeat_at <= ago()
