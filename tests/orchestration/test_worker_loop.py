"""The worker loop: a task is executed once, by the worker that holds its claim; a worker that lost it lands nothing."""

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.demo import changes
from apps.etl.load import publish as publishing
from apps.etl.tables import DIMENSIONS, FACT_SALES
from apps.orchestration import api
from apps.orchestration.models import Batch, CheckResult, Mode, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.ready import claim_next_task, ready_tasks
from apps.orchestration.requests import start_run
from apps.orchestration.worker import loop, tasks
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.local import execute_run
from apps.orchestration.worker.loop import execute_task
from apps.orchestration.worker.presence import worker_name
from apps.orchestration.worker.stages import STAGES, Landed, Report
from techmarket.errors import Cancelled, ClaimLost, TimedOut
from techmarket.messages import message
from tests.orchestration.harness import FakeBroker, ago, finish, fresh, read_warehouse, run_concurrently, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


def test_one_of_two_concurrent_claims_wins(broker: FakeBroker) -> None:
    task = start_queued_run().tasks.get()
    assert sorted(run_concurrently(2, lambda: fresh(task).claim_for("somebody"))) == [False, True]
    task.refresh_from_db()
    assert (task.state, task.attempt, task.worker) == (State.RUNNING, 1, "somebody")
    assert task.claim and task.heartbeat_at


def test_duplicate_message_makes_one_attempt(broker: FakeBroker) -> None:
    run = start_queued_run()
    for _ in range(100):
        if not (messages := broker.take_sent()):
            break
        for each in messages + messages:
            tasks.execute(each)
    assert fresh(run).state == State.SUCCEEDED
    assert set(run.tasks.values_list("attempt", flat=True)) == {1}
    assert run.row_counts.count() == run.row_counts.values("task", "table").distinct().count() > 0
    assert read_warehouse()[1] == 1


def test_message_for_a_deleted_task_is_ignored(broker: FakeBroker) -> None:
    tasks.execute(4_711)
    assert not Run.objects.exists()


def test_message_for_a_task_that_is_not_ready_is_ignored(broker: FakeBroker) -> None:
    run = start_queued_run()
    broker.deliver_until(Stage.EXTRACT)
    overlook_load_once = run.tasks.filter(stage__in=(Stage.TRANSFORM, Stage.LOAD)).exclude(subject="dim_date")
    assert len(overlook_load_once) > 2
    for task in overlook_load_once:
        tasks.execute(task.pk)
        assert (fresh(task).state, fresh(task).attempt) == (State.QUEUED, 0)
    assert fresh(run).state == State.RUNNING


@pytest.mark.parametrize("stage", [Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM])
def test_lost_claim_lands_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    run, real = start_queued_run(), STAGES[stage]
    task = broker.deliver_until(stage)

    def lose_claim(claimed: Task, report: Report) -> Landed:
        landed = real(claimed, report)
        Task.objects.filter(pk=claimed.pk).update(claim=uuid.uuid4(), worker="another")
        return landed

    monkeypatch.setitem(STAGES, stage, lose_claim)
    tasks.execute(task.pk)
    assert not Batch.objects.filter(task=task).exists() and not RowCount.objects.filter(task=task).exists()
    assert (fresh(task).state, fresh(task).worker) == (State.RUNNING, "another")
    assert fresh(run).is_active


def test_lost_claim_publishes_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    execute_run(api.start_run(Mode.FULL, "cli", "test"))
    changes.apply(20, 1)
    before = read_warehouse()
    run = start_queued_run()
    load, publish = broker.deliver_until(Stage.LOAD), publishing.publish

    def publish_late(request: object) -> object:
        Task.objects.filter(pk=load.pk).update(claim=uuid.uuid4(), worker="another")
        return publish(request)

    monkeypatch.setattr(publishing, "publish", publish_late)
    tasks.execute(load.pk)
    assert read_warehouse() == before
    assert (fresh(load).state, fresh(load).worker) == (State.RUNNING, "another")
    assert fresh(run).state == State.RUNNING and not CheckResult.objects.filter(task=load).exists()


def test_load_of_a_failed_run_publishes_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    start_queued_run()
    load, publish = broker.deliver_until(Stage.LOAD), publishing.publish

    def publish_late(request: object) -> object:
        Run.objects.update(state=State.FAILED, cause="ended by another process")
        return publish(request)

    monkeypatch.setattr(publishing, "publish", publish_late)
    tasks.execute(load.pk)
    assert read_warehouse() == ([], 0)
    assert Run.objects.get().cause == "ended by another process"


def test_order_of_the_stages(broker: FakeBroker) -> None:
    """Sales are extracted before any dimension; then transforms, preparation and load, each after what it reads."""
    run = start_queued_run()
    assert [task.stage for task in ready_tasks(run)] == [Stage.PLAN]
    tasks.execute(broker.take_sent()[0])
    sales = run.tasks.filter(stage=Stage.EXTRACT, subject=FACT_SALES.table)
    first, second = sales
    calendar = run.tasks.get(stage=Stage.TRANSFORM, subject="dim_date")
    assert list(ready_tasks(run)) == [first, second, calendar]

    finish(first)
    assert list(ready_tasks(run)) == [second, calendar, run.tasks.get(stage=Stage.TRANSFORM, subject=FACT_SALES.table, low=None)]

    finish(second)
    extracts = [task.subject for task in ready_tasks(run) if task.stage == Stage.EXTRACT]
    assert set(extracts) == {target.table for target in DIMENSIONS if target.sources}

    last = run.tasks.filter(stage=Stage.TRANSFORM).last()
    assert last
    while others := list(ready_tasks(run).exclude(pk=last.pk)):
        assert others[0].stage != Stage.PREPARE
        finish(others[0])
    assert list(ready_tasks(run)) == [last]
    assert last.claim_for("test") and list(ready_tasks(run)) == []
    last.requeue(message("task.worker_died", worker="test"))
    finish(last)
    if connections["dwh"].vendor == "postgresql":
        (prepare,) = ready_tasks(run)
        assert (prepare.stage, prepare.low, prepare.high) == (Stage.PREPARE, None, None)
        finish(prepare)
    assert [task.stage for task in ready_tasks(run)] == [Stage.LOAD]


def test_workers_and_one_process_load_the_same_rows(broker: FakeBroker) -> None:
    run = start_queued_run()
    broker.deliver_all()
    by_workers, counts = read_warehouse(), api.row_counts(run)
    assert fresh(run).state == State.SUCCEEDED and len(by_workers[0]) > 100
    alone = api.start_run(Mode.FULL, "cli", "test", reread=True)
    execute_run(alone)
    assert read_warehouse() == (by_workers[0], 2)
    alone_counts = api.row_counts(alone)
    assert {table: row["read"] for table, row in alone_counts.items()} == {table: row["read"] for table, row in counts.items()}
    assert sum(row["inserted"] + row["updated"] + row["deleted"] for row in alone_counts.values()) == 0


# --- The heartbeat ---


def wait_until(condition: Callable[[], object]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 60, "not within a minute"
        time.sleep(0.01)


def test_run_continues_after_overlooking_a_ready_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool worker ends the last transform between the claim and the query for unfinished tasks."""
    real, overlooked = claim_next_task, list[Task]()

    def overlook_load_once(run: Run, *options: Any) -> Task | None:
        tasks = list(ready_tasks(run))
        if not overlooked and [task.stage for task in tasks] == [Stage.LOAD]:
            overlooked.extend(tasks)
            return None
        return real(run, *options)

    monkeypatch.setattr(loop, "claim_next_task", overlook_load_once)
    run = start_run(Mode.FULL, Trigger.CLI, "test")
    execute_run(run)
    assert fresh(run).state == State.SUCCEEDED and overlooked


@pytest.fixture
def running_task(broker: FakeBroker, fast_heartbeat: None, settings: Settings) -> Task:
    """Return a task that this process executes; its last heartbeat, and its run's, are a minute old."""
    settings.ETL_HEARTBEAT_SECONDS = 0.05
    run = start_queued_run()
    task = run.tasks.select_related("run").get()
    assert task.claim_for(worker_name())
    run.transition(State.QUEUED, to=State.RUNNING, started_at=timezone.now())
    Task.objects.update(heartbeat_at=ago(minutes=1))
    Run.objects.update(heartbeat_at=ago(minutes=1), worker=worker_name())
    return task


def test_heartbeat_is_written_for_the_task_and_its_local_run(running_task: Task) -> None:
    with Heartbeat(running_task.run_id, worker_name()) as heartbeat:
        heartbeat.claim = running_task.claim
        wait_until(lambda: fresh(running_task).heartbeat_at > ago(seconds=20) and fresh(running_task.run).heartbeat_at > ago(seconds=20))


def test_heartbeat_is_not_written_for_others(running_task: Task) -> None:
    Task.objects.update(worker="another")
    Run.objects.update(worker="")
    heartbeat = Heartbeat(running_task.run_id, worker_name())
    heartbeat.write()
    assert fresh(running_task).heartbeat_at < ago(seconds=50) and fresh(running_task.run).heartbeat_at < ago(seconds=50)


def test_heartbeat_notices_a_cancellation(running_task: Task) -> None:
    with Heartbeat(running_task.run_id, worker_name()) as heartbeat:
        api.cancel_run(running_task.run_id, "olena", "the wrong day")
        wait_until(lambda: heartbeat.cause)
        with pytest.raises(Cancelled, match=r"Cancelled by olena: the wrong day\. Nothing was published\."):
            heartbeat.check()


def test_heartbeat_notices_a_lost_claim(running_task: Task) -> None:
    with Heartbeat(running_task.run_id, worker_name()) as heartbeat:
        heartbeat.claim = running_task.claim
        heartbeat.check()
        Task.objects.update(claim=uuid.uuid4())
        wait_until(lambda: heartbeat.cause)
        with pytest.raises(ClaimLost):
            heartbeat.check()


def test_heartbeat_does_not_mistake_an_ended_task_for_a_lost_claim(running_task: Task) -> None:
    heartbeat = Heartbeat(running_task.run_id, worker_name())
    heartbeat.claim = running_task.claim
    Task.objects.update(state=State.SUCCEEDED)
    assert heartbeat.listen() is None


def test_heartbeat_notices_that_the_run_has_ended(running_task: Task) -> None:
    Run.objects.update(state=State.LOST)
    assert isinstance(Heartbeat(running_task.run_id, worker_name()).listen(), ClaimLost)


@pytest.mark.parametrize(("mode", "limit"), [(Mode.FULL, 14_400), (Mode.INCREMENTAL, 7_200)])
def test_time_limit_by_mode(running_task: Task, mode: Mode, limit: int) -> None:
    heartbeat = Heartbeat(running_task.run_id, worker_name())
    Run.objects.update(mode=mode, started_at=timezone.now() - timedelta(seconds=limit - 30))
    assert heartbeat.listen() is None
    Run.objects.update(started_at=timezone.now() - timedelta(seconds=limit + 1))
    cause = heartbeat.listen()
    assert isinstance(cause, TimedOut) and str(cause) == f"The run took longer than its limit of {limit} s. Nothing was published."


def test_task_of_a_cancelled_or_ended_run_is_not_claimed(running_task: Task) -> None:
    for row in ({"cancelled_by": "olena"}, {"cancelled_by": "", "state": State.FAILED}):
        Run.objects.update(**row)
        Task.objects.update(state=State.QUEUED)
        heartbeat = Heartbeat(running_task.run_id, worker_name())
        assert not execute_task(Task.objects.select_related("run").get(), heartbeat)
        assert fresh(running_task).state == State.QUEUED
