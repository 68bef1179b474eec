"""Recovery: stalled tasks and lost runs of dead workers, and messages that the broker lost."""

from collections.abc import Callable

import pytest
from django.db import connections
from django.db.models import Count
from kombu.exceptions import OperationalError
from pytest_django.fixtures import Settings

from apps.orchestration import api
from apps.orchestration.models import CauseKind, Executor, Mode, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.worker import delivery, loop, tasks
from apps.orchestration.worker.loop import execute_task
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import Landed
from apps.warehouse.models import Load
from tests.orchestration.harness import FakeBroker, ago, fresh, read_warehouse, requeue_before_landing, run_concurrently, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
Sent = list[tuple[str, list[int]]]


class Died(BaseException):
    """Stands for the death of the process: no handler of ours catches it."""


def make_stalled(task: Task, worker: str = "dead:1") -> Task:
    """Let a worker claim the task whose last heartbeat is older than is allowed. Return the task."""
    assert fresh(task).claim_for(worker)
    Run.objects.filter(pk=task.run_id, state=State.QUEUED).update(state=State.RUNNING, started_at=ago(minutes=1))
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=31))
    return fresh(task)


def test_stalled_task_is_requeued_and_sent(broker: FakeBroker) -> None:
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    broker.take_sent()
    held = make_stalled(task)
    reap()
    task = fresh(task)
    assert (task.state, task.attempt, task.claim) == (State.QUEUED, 1, None)
    assert task.cause.startswith("dead:1 stopped sending heartbeats at ")
    assert task.pk in broker.take_sent() and fresh(run).state == State.RUNNING
    tasks.execute(task.pk)
    assert (fresh(task).state, fresh(task).attempt, fresh(task).cause) == (State.SUCCEEDED, 2, "")
    (lost,) = task.attempts.all()
    assert (lost.number, lost.worker, lost.cause, lost.cause_kind) == (1, "dead:1", task.cause, CauseKind.MACHINE)
    assert fresh(task).claim != held.claim


def test_task_with_a_recent_heartbeat_is_left_alone(broker: FakeBroker) -> None:
    start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    make_stalled(task)
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=25))
    reap()
    assert fresh(task).state == State.RUNNING


def test_worker_that_lost_its_task_lands_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lands after the reaper has requeued its task and another worker has done it."""
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    requeue_before_landing(monkeypatch)
    tasks.execute(task.pk)
    assert (fresh(task).state, fresh(task).attempt, fresh(task).batches.count()) == (State.SUCCEEDED, 2, 4)
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and read_warehouse()[1] == 1


def test_stalled_task_without_attempts_left_is_lost(broker: FakeBroker, settings: Settings) -> None:
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    for attempt in range(1, settings.ETL_ATTEMPTS + 1):
        assert make_stalled(task, f"dead:{attempt}").attempt == attempt
        reap()
    task, run = fresh(task), fresh(run)
    assert (task.state, task.cause_kind, run.state, run.cause_kind) == (State.LOST, CauseKind.MACHINE, State.LOST, CauseKind.MACHINE)
    assert run.cause == task.cause and run.cause.startswith("dead:3 stopped sending heartbeats at ")
    assert run.finished_at and start_queued_run().state == State.QUEUED, "a new run may start"


def test_resumed_lost_run_has_all_attempts_again(broker: FakeBroker, settings: Settings) -> None:
    settings.ETL_ATTEMPTS = 1
    run = start_queued_run()
    make_stalled(broker.deliver_until(Stage.LOAD))
    reap()
    broker.take_sent()
    assert fresh(run).state == State.LOST
    api.resume_run(run.pk, queue=True)
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and run.tasks.get(stage=Stage.LOAD).attempt == 1


@pytest.mark.parametrize("within", [True, False], ids=["within a task", "between two"])
def test_local_run_of_a_dead_process_is_lost(within: bool) -> None:
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    Run.objects.update(worker="dead:1")
    if within:
        make_stalled(run.tasks.get())
    Run.objects.update(heartbeat_at=ago(seconds=25))
    if not within:
        reap()
        assert fresh(run).is_active, "too early"
        Run.objects.update(heartbeat_at=ago(seconds=31))
    reap()
    run = fresh(run)
    assert (run.state, run.cause_kind) == (State.LOST, CauseKind.MACHINE) and run.cause.startswith("dead:1 stopped sending heartbeats")
    assert not run.tasks.filter(state=State.RUNNING).exists()


def test_new_run_reaps_first(broker: FakeBroker, settings: Settings) -> None:
    Run.objects.create(
        mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", executor=Executor.LOCAL, worker="dead:1", heartbeat_at=ago(seconds=31)
    )
    assert start_queued_run().state == State.QUEUED
    assert set(Run.objects.values_list("state", flat=True)) == {State.LOST, State.QUEUED}


@pytest.mark.parametrize("attempts", [1, 3])
def test_published_but_unrecorded_load_succeeds(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings, attempts: int
) -> None:
    settings.ETL_ATTEMPTS = attempts
    run = start_queued_run()
    task = Task.objects.select_related("run").get(pk=broker.deliver_until(Stage.LOAD).pk)

    def die(task: Task, landed: Landed) -> None:
        raise Died

    monkeypatch.setattr(loop, "land", die)
    with pytest.raises(Died), loop.Heartbeat(run.pk, "here:1") as heartbeat:
        execute_task(task, heartbeat)
    assert fresh(task).state == State.RUNNING and read_warehouse()[1] == 1
    connections["dwh"].close()  # the reaper terminates the dead worker's session, which is this process's
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=31))
    run_concurrently(3, reap)
    assert (fresh(run).state, fresh(task).state, fresh(task).attempt) == (State.SUCCEEDED, State.SUCCEEDED, 1)
    counts = RowCount.objects.filter(task=task)
    assert {row.table: row.inserted for row in counts} == {table: row["inserted"] for table, row in Load.objects.get().counts.items()}
    assert counts.get(table="fact_sales").inserted == len(read_warehouse()[0]) > 100
    assert not RowCount.objects.values("task", "table").annotate(n=Count("pk")).filter(n__gt=1)


def test_lost_message_is_resent(broker: FakeBroker) -> None:
    run = start_queued_run()
    task = run.tasks.get()
    assert broker.take_sent() == [task.pk]
    Task.objects.update(message_sent_at=ago(seconds=55))
    reap()
    assert broker.take_sent() == [], "it may still be on its way"
    Task.objects.update(message_sent_at=ago(seconds=61))
    reap()
    assert broker.take_sent() == [task.pk]
    reap()
    assert broker.take_sent() == []
    Task.objects.update(state=State.RUNNING, heartbeat_at=ago(), message_sent_at=ago(hours=1))
    reap()
    assert broker.take_sent() == [], "a worker has claimed it"


@pytest.mark.parametrize("error", [OperationalError("no broker"), ConnectionRefusedError(111, "refused"), TimeoutError("timed out")])
def test_run_started_without_a_broker_is_sent_later(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    sent: Sent = []

    def fail_to_send(name: str, args: list[int]) -> None:
        raise error

    def record_message(name: str, args: list[int]) -> None:
        sent.append((name, args))

    monkeypatch.setattr(delivery.app, "send_task", fail_to_send)
    run = start_queued_run()
    assert run.state == State.QUEUED and run.tasks.get().message_sent_at is None
    reap()
    assert fresh(run).state == State.QUEUED
    monkeypatch.setattr(delivery.app, "send_task", record_message)
    reap()
    assert sent == [("techmarket.plan", [run.tasks.get().pk])]
    assert run.tasks.get().message_sent_at


def test_messages_carry_only_a_task_id(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: Sent = []
    monkeypatch.setattr(delivery.app, "send_task", lambda name, args: sent.append((name, args)))
    start_queued_run()
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


def test_heartbeats_use_the_control_database_clock(broker: FakeBroker) -> None:
    """A worker's own clock may be wrong, so a claim is stamped by the database's."""
    task = start_queued_run().tasks.get()
    before = ago(milliseconds=1)  # SQLite's clock has milliseconds
    task.claim_for("somebody")
    assert task.heartbeat_at and before <= task.heartbeat_at <= ago()
