"""A run that somebody ends: at any stage, before a task and within one, and never after the commit."""

import time

import pytest

from apps.orchestration import api
from apps.orchestration.models import Mode, Run, Stage, State, Task, Trigger
from apps.orchestration.requests import cancel_run
from apps.orchestration.worker import stages, tasks
from apps.orchestration.worker.delivery import advance_run
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from techmarket.errors import Cancelled
from tests.orchestration.harness import FakeBroker, asked, fresh, star

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
ALL = [Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM, Stage.LOAD]
SAID = "Cancelled by olena: wrong day. Nothing was published."


def assert_cancelled(run: Run) -> None:
    run = fresh(run)
    assert (run.state, run.cause, run.cancelled_by, run.reason) == (State.CANCELLED, SAID, "olena", "wrong day")
    assert run.finished_at and star() == ([], 0)
    assert not run.tasks.filter(state=State.RUNNING).exists()


@pytest.mark.parametrize("stage", ALL)
def test_cancel_before_a_stage_at_the_workers(broker: FakeBroker, stage: Stage) -> None:
    run = asked()
    task = broker.work_until(stage)
    assert cancel_run(run.pk, "olena", "wrong day")
    assert_cancelled(run)
    broker.work()
    assert fresh(task).state == State.QUEUED and fresh(task).attempt == 0
    assert_cancelled(run)


@pytest.mark.parametrize("stage", ALL)
@pytest.mark.parametrize("workers", [True, False], ids=["workers", "alone"])
def test_cancel_within_a_stage(broker: FakeBroker, quick_heart: None, monkeypatch: pytest.MonkeyPatch, stage: Stage, workers: bool) -> None:
    def waits(task: Task, report: Report) -> Landed:
        cancel_run(task.run_id, "olena", "wrong day")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            report("fact_sales", 0)
            time.sleep(0.01)
        raise AssertionError("nobody ended it")

    monkeypatch.setitem(STAGES, stage, waits)
    if workers:
        run = asked()
        broker.work()
    else:
        run = api.start_run(Mode.FULL, Trigger.CLI, "test")
        with pytest.raises(Cancelled):
            api.execute_run(run)
    assert_cancelled(run)
    assert run.tasks.get(state=State.CANCELLED).stage == stage


@pytest.mark.parametrize("workers", [True, False], ids=["workers", "alone"])
def test_cancel_that_the_commit_hears_of_first(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, workers: bool) -> None:
    """The heart listens once a second; the load asks before it commits. It is a cancel all the same, not a claim that was lost."""
    real = STAGES[Stage.LOAD]

    def load(task: Task, report: Report) -> Landed:
        cancel_run(task.run_id, "olena", "wrong day")
        return real(task, report)

    monkeypatch.setitem(STAGES, Stage.LOAD, load)
    if workers:
        run = asked()
        broker.work()
    else:
        run = api.start_run(Mode.FULL, Trigger.CLI, "test")
        with pytest.raises(Cancelled):
            api.execute_run(run)
    assert_cancelled(run)


def test_cancel_after_the_commit_is_too_late(quick_heart: None, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published has succeeded, whoever wished otherwise meanwhile."""
    publish = stages.publish

    def late(request: stages.PublishRequest) -> object:
        published = publish(request)
        cancel_run(request.run_id, "olena", "wrong day")
        time.sleep(0.3)  # the heart has heard of it
        return published

    monkeypatch.setattr(stages, "publish", late)
    run = asked()
    broker.work()
    assert fresh(run).state == State.SUCCEEDED and star()[1] == 1
    assert run.row_counts.filter(task__stage=Stage.LOAD).exists()


def test_cancel_while_the_last_task_lands_ends_with_it(broker: FakeBroker) -> None:
    """Nobody waits for the reaper."""
    run = asked()
    tasks.execute(broker.take()[0])
    Run.objects.update(cancelled_by="olena", reason="wrong day")
    advance_run(fresh(run))
    assert_cancelled(run)


def test_cancel_of_a_run_whose_worker_died(broker: FakeBroker) -> None:
    run = asked()
    task = broker.work_until(Stage.EXTRACT)
    assert fresh(task).claim_for("dead:1")
    cancel_run(run.pk, "olena", "wrong day")
    assert fresh(run).state == State.RUNNING
    Task.objects.filter(pk=task.pk).update(state=State.QUEUED)  # as the reaper finds it
    reap()
    assert_cancelled(run)


def test_cancel_of_what_is_not_active(broker: FakeBroker) -> None:
    run = asked()
    assert cancel_run(run.pk, "olena") and cancel_run(run.pk, "petro") is None
    assert (fresh(run).cancelled_by, fresh(run).cause) == ("olena", "Cancelled by olena. Nothing was published.")
    assert cancel_run(4_711, "olena") is None


def test_cancelled_run_is_resumed(broker: FakeBroker) -> None:
    run = asked()
    broker.work_until(Stage.LOAD)
    cancel_run(run.pk, "olena", "wrong day")
    api.resume_run(run.pk, queue=True)
    assert fresh(run).cancelled_by == ""
    broker.work()
    assert fresh(run).state == State.SUCCEEDED and star()[1] == 1


def test_keyboard_interrupt_is_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(task: Task, report: Report) -> Landed:
        raise KeyboardInterrupt

    monkeypatch.setitem(STAGES, Stage.TRANSFORM, interrupted)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(KeyboardInterrupt):
        api.execute_run(run)
    assert (fresh(run).state, fresh(run).cause) == (State.CANCELLED, "Cancelled at the terminal. Nothing was published.")
    assert run.tasks.filter(state=State.CANCELLED).count() == 1
