"""Cancelling a run: at any stage, before a task and during one, but not after the commit."""

import time

import pytest

from apps.etl.load import publish as publishing
from apps.orchestration import api
from apps.orchestration.models import Mode, Run, Stage, State, Task, Trigger
from apps.orchestration.requests import cancel_run
from apps.orchestration.worker import tasks
from apps.orchestration.worker.delivery import advance_run
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from techmarket.errors import Cancelled
from tests.orchestration.harness import FakeBroker, fresh, read_warehouse, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
ALL = [Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM, Stage.LOAD]
CAUSE = "Cancelled by olena: wrong day. Nothing was published."


def assert_cancelled(run: Run) -> None:
    run = fresh(run)
    assert (run.state, run.cause, run.cause_kind) == (State.CANCELLED, CAUSE, ""), "a decision is no failure of a machine"
    assert (run.cancelled_by, run.reason) == ("olena", "wrong day")
    assert run.finished_at and read_warehouse() == ([], 0)
    assert not run.tasks.filter(state=State.RUNNING).exists()


@pytest.mark.parametrize("stage", ALL)
def test_cancel_before_a_stage_on_workers(broker: FakeBroker, stage: Stage) -> None:
    run = start_queued_run()
    task = broker.deliver_until(stage)
    assert cancel_run(run.pk, "olena", "wrong day")
    assert_cancelled(run)
    broker.deliver_all()
    assert fresh(task).state == State.QUEUED and fresh(task).attempt == 0
    assert_cancelled(run)


@pytest.mark.parametrize("stage", ALL)
@pytest.mark.parametrize("workers", [True, False], ids=["workers", "alone"])
def test_cancel_during_a_stage(
    broker: FakeBroker, fast_heartbeat: None, monkeypatch: pytest.MonkeyPatch, stage: Stage, workers: bool
) -> None:
    def wait_for_cancel(task: Task, report: Report) -> Landed:
        cancel_run(task.run_id, "olena", "wrong day")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            report("fact_sales", 0)
            time.sleep(0.01)
        raise AssertionError("the run was not cancelled")

    monkeypatch.setitem(STAGES, stage, wait_for_cancel)
    if workers:
        run = start_queued_run()
        broker.deliver_all()
    else:
        run = api.start_run(Mode.FULL, Trigger.CLI, "test")
        with pytest.raises(Cancelled):
            api.execute_run(run)
    assert_cancelled(run)
    assert run.tasks.get(state=State.CANCELLED).stage == stage


@pytest.mark.parametrize("workers", [True, False], ids=["workers", "alone"])
def test_cancel_seen_first_by_the_commit_cancels_the_run(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, workers: bool) -> None:
    """The load checks its claim before the heartbeat, which listens once a second, has seen the cancellation. It is not a lost claim."""
    real = STAGES[Stage.LOAD]

    def load(task: Task, report: Report) -> Landed:
        cancel_run(task.run_id, "olena", "wrong day")
        return real(task, report)

    monkeypatch.setitem(STAGES, Stage.LOAD, load)
    if workers:
        run = start_queued_run()
        broker.deliver_all()
    else:
        run = api.start_run(Mode.FULL, Trigger.CLI, "test")
        with pytest.raises(Cancelled):
            api.execute_run(run)
    assert_cancelled(run)


def test_cancel_after_the_commit_changes_nothing(fast_heartbeat: None, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published run has succeeded, even if it was cancelled meanwhile."""
    publish = publishing.publish

    def cancel_after_publish(request: publishing.PublishRequest) -> object:
        published = publish(request)
        cancel_run(request.run_id, "olena", "wrong day")
        time.sleep(0.3)  # the heartbeat has seen it
        return published

    monkeypatch.setattr(publishing, "publish", cancel_after_publish)
    run = start_queued_run()
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and read_warehouse()[1] == 1
    assert run.row_counts.filter(task__stage=Stage.LOAD).exists()


def test_cancel_while_the_last_task_lands_needs_no_reaper(broker: FakeBroker) -> None:
    """The run ends at once, without waiting for the reaper."""
    run = start_queued_run()
    tasks.execute(broker.take_sent()[0])
    Run.objects.update(cancelled_by="olena", reason="wrong day")
    advance_run(fresh(run))
    assert_cancelled(run)


def test_cancelled_run_of_a_dead_worker_is_ended_by_the_reaper(broker: FakeBroker) -> None:
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    assert fresh(task).claim_for("dead:1")
    cancel_run(run.pk, "olena", "wrong day")
    assert fresh(run).state == State.RUNNING
    Task.objects.filter(pk=task.pk).update(state=State.QUEUED)  # as the reaper requeues it
    reap()
    assert_cancelled(run)


def test_cancel_of_an_inactive_run_returns_none(broker: FakeBroker) -> None:
    run = start_queued_run()
    assert cancel_run(run.pk, "olena") and cancel_run(run.pk, "petro") is None
    assert (fresh(run).cancelled_by, fresh(run).cause) == ("olena", "Cancelled by olena. Nothing was published.")
    assert cancel_run(4_711, "olena") is None


def test_cancelled_run_can_be_resumed(broker: FakeBroker) -> None:
    run = start_queued_run()
    broker.deliver_until(Stage.LOAD)
    cancel_run(run.pk, "olena", "wrong day")
    api.resume_run(run.pk, queue=True)
    assert fresh(run).cancelled_by == ""
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and read_warehouse()[1] == 1


def test_keyboard_interrupt_cancels_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(task: Task, report: Report) -> Landed:
        raise KeyboardInterrupt

    monkeypatch.setitem(STAGES, Stage.TRANSFORM, interrupt)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(KeyboardInterrupt):
        api.execute_run(run)
    assert (fresh(run).state, fresh(run).cause) == (State.CANCELLED, "Cancelled at the terminal. Nothing was published.")
    assert run.tasks.filter(state=State.CANCELLED).count() == 1
