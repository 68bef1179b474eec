"""Claims: a task is done once, by whoever holds its row; what was lost on the way lands nothing."""

import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.demo import changes
from apps.etl.tables import DIMENSIONS, FACT_SALES
from apps.orchestration import api
from apps.orchestration.models import Batch, CheckResult, Mode, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.ready import ready_tasks
from apps.orchestration.requests import start_run
from apps.orchestration.worker import local, stages, tasks
from apps.orchestration.worker.heartbeat import Heartbeat, worker_name
from apps.orchestration.worker.local import execute_run
from apps.orchestration.worker.loop import execute_task
from apps.orchestration.worker.stages import STAGES, Landed, Report
from techmarket.errors import Cancelled, ClaimLost, TimedOut
from tests.orchestration.harness import FakeBroker, ago, asked, at_once, fresh, star

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


def test_of_two_claims_one_wins(broker: FakeBroker) -> None:
    task = asked().tasks.get()
    assert sorted(at_once(2, lambda: fresh(task).claim_for("somebody"))) == [False, True]
    task.refresh_from_db()
    assert (task.state, task.attempt, task.worker) == (State.RUNNING, 1, "somebody")
    assert task.claim and task.heartbeat_at


def test_message_that_comes_twice_is_one_attempt(broker: FakeBroker) -> None:
    run = asked()
    for _ in range(100):
        if not (messages := broker.take()):
            break
        for message in messages + messages:
            tasks.execute(message)
    assert fresh(run).state == State.SUCCEEDED
    assert set(run.tasks.values_list("attempt", flat=True)) == {1}
    assert run.row_counts.count() == run.row_counts.values("task", "table").distinct().count() > 0
    assert star()[1] == 1


def test_message_of_a_task_that_is_gone(broker: FakeBroker) -> None:
    tasks.execute(4_711)
    assert not Run.objects.exists()


def test_message_that_comes_before_its_time(broker: FakeBroker) -> None:
    run = asked()
    broker.work_until(Stage.EXTRACT)
    early = run.tasks.filter(stage__in=(Stage.TRANSFORM, Stage.LOAD)).exclude(subject="dim_date")
    assert len(early) > 2
    for task in early:
        tasks.execute(task.pk)
        assert (fresh(task).state, fresh(task).attempt) == (State.QUEUED, 0)
    assert fresh(run).state == State.RUNNING


@pytest.mark.parametrize("stage", [Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM])
def test_lost_claim_lands_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    run, done = asked(), STAGES[stage]
    task = broker.work_until(stage)

    def slow(mine: Task, report: Report) -> Landed:
        landed = done(mine, report)
        Task.objects.filter(pk=mine.pk).update(claim=uuid.uuid4(), worker="another")
        return landed

    monkeypatch.setitem(STAGES, stage, slow)
    tasks.execute(task.pk)
    assert not Batch.objects.filter(task=task).exists() and not RowCount.objects.filter(task=task).exists()
    assert (fresh(task).state, fresh(task).worker) == (State.RUNNING, "another")
    assert fresh(run).is_active


def test_lost_claim_publishes_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    execute_run(api.start_run(Mode.FULL, "cli", "test"))
    changes.apply(20, 1)
    before = star()
    run = asked()
    load, publish = broker.work_until(Stage.LOAD), stages.publish

    def late(order: object) -> object:
        Task.objects.filter(pk=load.pk).update(claim=uuid.uuid4(), worker="another")
        return publish(order)

    monkeypatch.setattr(stages, "publish", late)
    tasks.execute(load.pk)
    assert star() == before
    assert (fresh(load).state, fresh(load).worker) == (State.RUNNING, "another")
    assert fresh(run).state == State.RUNNING and not CheckResult.objects.filter(task=load).exists()


def test_claim_that_loses_its_run_publishes_nothing(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked()
    load, publish = broker.work_until(Stage.LOAD), stages.publish

    def late(order: object) -> object:
        Run.objects.update(state=State.FAILED, cause="somebody else said so")
        return publish(order)

    monkeypatch.setattr(stages, "publish", late)
    tasks.execute(load.pk)
    assert star() == ([], 0)
    assert Run.objects.get().cause == "somebody else said so"


def test_order_of_the_stages(broker: FakeBroker) -> None:
    """Sales are extracted before any dimension; a transform waits for its slice; the load waits for all."""
    run = asked()
    assert [task.stage for task in ready_tasks(run)] == [Stage.PLAN]
    tasks.execute(broker.take()[0])
    sales = run.tasks.filter(stage=Stage.EXTRACT, subject=FACT_SALES.table)
    first, second = sales
    calendar = run.tasks.get(stage=Stage.TRANSFORM, subject="dim_date")
    assert set(ready_tasks(run)) == {first, second, calendar}

    Task.objects.filter(pk=first.pk).update(state=State.SUCCEEDED)
    assert set(ready_tasks(run)) == {second, calendar, run.tasks.get(stage=Stage.TRANSFORM, subject=FACT_SALES.table, low=None)}

    Task.objects.filter(pk=second.pk).update(state=State.SUCCEEDED)
    extracts = [task.subject for task in ready_tasks(run) if task.stage == Stage.EXTRACT]
    assert set(extracts) == {target.table for target in DIMENSIONS if target.sources}

    last = run.tasks.filter(stage=Stage.TRANSFORM).last()
    assert last
    run.tasks.exclude(stage=Stage.LOAD).exclude(pk=last.pk).update(state=State.SUCCEEDED)
    assert ready_tasks(run) == [last]
    Task.objects.filter(pk=last.pk).update(state=State.RUNNING)
    assert ready_tasks(run) == []
    Task.objects.filter(pk=last.pk).update(state=State.SUCCEEDED)
    assert [task.stage for task in ready_tasks(run)] == [Stage.LOAD]


def test_run_by_workers_is_the_run_of_one_process(broker: FakeBroker) -> None:
    run = asked()
    broker.work()
    by_workers, counts = star(), api.row_counts(run)
    assert fresh(run).state == State.SUCCEEDED and len(by_workers[0]) > 100
    alone = api.start_run(Mode.FULL, "cli", "test")
    execute_run(alone)
    assert star() == (by_workers[0], 2)
    again = api.row_counts(alone)
    assert {table: row["read"] for table, row in again.items()} == {table: row["read"] for table, row in counts.items()}
    assert sum(row["inserted"] + row["updated"] + row["deleted"] for row in again.values()) == 0


# --- The heartbeat ---


def until(met: Callable[[], object]) -> None:
    began = time.monotonic()
    while not met():
        assert time.monotonic() - began < 60, "not within a minute"
        time.sleep(0.01)


def test_run_goes_on_where_the_last_look_came_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of the crew ends its last task between the look for ready tasks and the look for those in hand."""
    look, missed = ready_tasks, list[Task]()

    def early(run: Run) -> list[Task]:
        tasks = look(run)
        if not missed and [task.stage for task in tasks] == [Stage.LOAD]:
            missed.extend(tasks)
            return []
        return tasks

    monkeypatch.setattr(local, "ready_tasks", early)
    run = start_run(Mode.FULL, Trigger.CLI, "test")
    execute_run(run)
    assert fresh(run).state == State.SUCCEEDED and missed


@pytest.fixture
def held(broker: FakeBroker, quick_heart: None, settings: Settings) -> Task:
    """A task of a run that is being carried out, with the last heartbeats a minute ago."""
    settings.ETL_HEARTBEAT_SECONDS = 0.05
    run = asked()
    task = run.tasks.select_related("run").get()
    assert task.claim_for(worker_name())
    run.transition(State.QUEUED, to=State.RUNNING, started_at=timezone.now())
    Task.objects.update(heartbeat_at=ago(minutes=1))
    Run.objects.update(heartbeat_at=ago(minutes=1), worker=worker_name())
    return task


def test_heartbeat_is_written_for_the_task_and_for_the_run_of_one_process(held: Task) -> None:
    with Heartbeat(held.run_id, worker_name()):
        until(lambda: fresh(held).heartbeat_at > ago(seconds=20) and fresh(held.run).heartbeat_at > ago(seconds=20))


def test_heartbeat_is_not_written_for_others(held: Task) -> None:
    Task.objects.update(worker="another")
    Run.objects.update(worker="")
    heart = Heartbeat(held.run_id, worker_name())
    heart.write()
    assert fresh(held).heartbeat_at < ago(seconds=50) and fresh(held.run).heartbeat_at < ago(seconds=50)


def test_heart_hears_of_a_cancel(held: Task) -> None:
    with Heartbeat(held.run_id, worker_name()) as heart:
        api.cancel_run(held.run_id, "olena", "the wrong day")
        until(lambda: heart.cause)
        with pytest.raises(Cancelled, match=r"Cancelled by olena: the wrong day\. Nothing was published\."):
            heart.check()


def test_heart_hears_that_the_claim_is_lost(held: Task) -> None:
    with Heartbeat(held.run_id, worker_name()) as heart:
        heart.claim = held.claim
        heart.check()
        Task.objects.update(claim=uuid.uuid4())
        until(lambda: heart.cause)
        with pytest.raises(ClaimLost):
            heart.check()


def test_heart_does_not_take_a_task_that_ended_for_one_that_was_lost(held: Task) -> None:
    heart = Heartbeat(held.run_id, worker_name())
    heart.claim = held.claim
    Task.objects.update(state=State.SUCCEEDED)
    assert heart.listen() is None


def test_heart_hears_that_the_run_has_ended(held: Task) -> None:
    Run.objects.update(state=State.LOST)
    assert isinstance(Heartbeat(held.run_id, worker_name()).listen(), ClaimLost)


@pytest.mark.parametrize(("mode", "limit"), [(Mode.FULL, 14_400), (Mode.INCREMENTAL, 7_200)])
def test_time_limit_by_mode(held: Task, mode: Mode, limit: int) -> None:
    heart = Heartbeat(held.run_id, worker_name())
    Run.objects.update(mode=mode, started_at=timezone.now() - timedelta(seconds=limit - 30))
    assert heart.listen() is None
    Run.objects.update(started_at=timezone.now() - timedelta(seconds=limit + 1))
    cause = heart.listen()
    assert isinstance(cause, TimedOut) and str(cause) == f"The run took longer than its limit of {limit} s. Nothing was published."


def test_claim_of_a_run_that_is_cancelled_or_over(held: Task) -> None:
    for row in ({"cancelled_by": "olena"}, {"cancelled_by": "", "state": State.FAILED}):
        Run.objects.update(**row)
        Task.objects.update(state=State.QUEUED)
        heart = Heartbeat(held.run_id, worker_name())
        assert not execute_task(Task.objects.select_related("run").get(), heart)
        assert fresh(held).state == State.QUEUED
