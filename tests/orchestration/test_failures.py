"""Failures: transient ones are retried, others end the run at once; cause and kind of cause are recorded."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from pytest_django.fixtures import Settings

from apps.etl.load import publish as publishing
from apps.orchestration import api
from apps.orchestration.models import CauseKind, Mode, Run, Stage, State, Task, Trigger
from apps.orchestration.worker import loop, tasks
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from apps.sources.orders.models import OrderItem
from apps.warehouse.models import Load
from techmarket.errors import BadData, ChecksRefused, ConnectionLost, EtlError, LockTimeout, TimedOut
from tests.orchestration.harness import FakeBroker, ago, fresh, read_warehouse, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
ALL = [Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM, Stage.LOAD]


def database_locked_error() -> Exception:
    error = OperationalError("database is locked")
    error.__cause__ = sqlite3.OperationalError("database is locked")
    error.__cause__.sqlite_errorname = "SQLITE_BUSY"  # type: ignore[misc]
    return error


def fail_stage(monkeypatch: pytest.MonkeyPatch, stage: Stage, times: int, error: Callable[[], Exception]) -> list[int]:
    """Let tasks of this stage fail `times` times in all. Return the list that collects the ids of the failed ones."""
    real, failed_tasks = STAGES[stage], []

    def fail(task: Task, report: Report) -> Landed:
        if len(failed_tasks) < times:
            failed_tasks.append(task.pk)
            raise error()
        return real(task, report)

    monkeypatch.setitem(STAGES, stage, fail)
    return failed_tasks


def test_control_database_failure_between_tasks_names_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.claim_next_task

    def fail_when_extracted(run: Run, *options: Any) -> Task | None:
        if run.tasks.filter(stage=Stage.EXTRACT, state=State.SUCCEEDED).exists():
            raise database_locked_error()
        return real(run, *options)

    monkeypatch.setattr(loop, "claim_next_task", fail_when_extracted)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(LockTimeout):
        api.execute_run(run)
    assert fresh(run).state == State.FAILED and fresh(run).cause.startswith("control database (")


@pytest.mark.parametrize(("stage", "kind"), [*((stage, ConnectionLost) for stage in ALL), (Stage.LOAD, LockTimeout)])
def test_transient_failure_is_retried(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, stage: Stage, kind: type[EtlError]) -> None:
    failed_tasks = fail_stage(monkeypatch, stage, 2, kind)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    api.execute_run(run)
    assert fresh(run).state == State.SUCCEEDED and read_warehouse()[1] == 1
    attempts = dict(run.tasks.values_list("pk", "attempt"))
    assert {pk: attempts[pk] - 1 for pk in failed_tasks} == {pk: failed_tasks.count(pk) for pk in failed_tasks}
    assert sum(attempts.values()) == len(attempts) + 2
    assert set(run.tasks.values_list("cause", "cause_kind")) == {("", "")}
    attempts_recorded = [(attempt.task_id, attempt.number, attempt.cause, attempt.cause_kind) for attempt in run.attempts.all()]
    assert attempts_recorded == [
        (pk, failed_tasks[:place].count(pk) + 1, kind.__doc__, CauseKind.MACHINE) for place, pk in enumerate(failed_tasks)
    ]


def test_control_database_failure_is_transient(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's error that was not diagnosed as one of a source or the warehouse belongs to the control database."""
    fail_stage(monkeypatch, Stage.TRANSFORM, 1, database_locked_error)
    run = start_queued_run()
    broker.deliver_all()
    reap()  # the reaper sends the tasks that are to be retried
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED
    assert sorted(run.tasks.values_list("attempt", flat=True))[-1] == 2


def test_retry_delay_grows_with_each_attempt(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.ETL_RETRY_SECONDS = 10
    fail_stage(monkeypatch, Stage.PLAN, 99, ConnectionLost)
    run = start_queued_run()
    task = run.tasks.get()
    for attempt, wait in ((1, 10), (2, 40)):
        assert broker.take_sent() == [task.pk]
        before = ago(milliseconds=1)  # SQLite's clock has milliseconds
        tasks.execute(task.pk)
        task.refresh_from_db()
        assert (task.state, task.attempt, task.message_sent_at) == (State.QUEUED, attempt, None)
        assert task.cause == ConnectionLost.__doc__ and fresh(run).state == State.RUNNING
        assert task.not_before and before <= task.not_before - timedelta(seconds=wait) <= ago()
        reap()
        assert broker.take_sent() == [], "too early"
        Task.objects.update(not_before=ago(seconds=1))
        reap()
    assert broker.take_sent() == [task.pk]
    tasks.execute(task.pk)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (State.FAILED, settings.ETL_ATTEMPTS)
    run = fresh(run)
    assert (run.state, run.cause, run.cause_kind) == (State.FAILED, ConnectionLost.__doc__, CauseKind.MACHINE)
    reap()
    assert broker.take_sent() == []


def test_scheduled_run_retries_every_five_minutes(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    fail_stage(monkeypatch, Stage.PLAN, 99, ConnectionLost)
    run = start_queued_run(trigger=Trigger.SCHEDULE)
    for _ in range(2):
        before = ago(milliseconds=1)  # SQLite's clock has milliseconds
        tasks.execute(broker.take_sent()[0])
        not_before = run.tasks.get().not_before
        assert not_before and before <= not_before - timedelta(minutes=5) <= ago()
        Task.objects.update(not_before=ago(seconds=1))
        reap()
    tasks.execute(broker.take_sent()[0])
    assert fresh(run).state == State.FAILED and run.tasks.get().attempt == 3


@pytest.mark.parametrize("stage", ALL)
def test_terminal_failure_ends_the_run_at_once(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    failed_tasks = fail_stage(monkeypatch, stage, 99, lambda: BadData("Row 7 is green."))
    run = start_queued_run()
    broker.deliver_all()
    run = fresh(run)
    assert (run.state, run.cause, run.cause_kind) == (State.FAILED, "Row 7 is green.", CauseKind.DATA)
    assert run.finished_at and len(failed_tasks) == 1 and read_warehouse() == ([], 0)
    failed = run.tasks.get(state=State.FAILED)
    assert (failed.pk, failed.stage, failed.attempt, failed.cause) == (failed_tasks[0], stage, 1, "Row 7 is green.")
    assert not run.tasks.filter(state=State.RUNNING).exists()


def test_unexpected_error_is_recorded_with_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_stage(monkeypatch, Stage.TRANSFORM, 1, lambda: ZeroDivisionError("division by zero"))
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(ZeroDivisionError):
        api.execute_run(run)
    assert fresh(run).cause == "Unexpected ZeroDivisionError: division by zero. Nothing was published."
    assert fresh(run).cause_kind == CauseKind.BUG


def test_failed_blocking_checks_are_recorded_once(settings: Settings) -> None:
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    settings.ETL_MAX_REJECTED_PERCENT = 0
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    for _ in range(2):  # a resumed run must not record them twice
        with pytest.raises(ChecksRefused):
            api.execute_run(run)
        run = fresh(run)
        assert (run.state, run.cause_kind) == (State.FAILED, CauseKind.DATA)
        assert run.cause.startswith("Stopped before publishing: ") and "share rejected" in run.cause
        assert {check.name for check in run.checks.filter(passed=False, blocking=True)} == {"share rejected"}
        assert run.checks.filter(passed=True).count() > 20
        assert run.checks.count() == run.checks.values("name", "table").distinct().count()
        assert read_warehouse() == ([], 0)
        run = api.resume_run(run.pk)
    settings.ETL_MAX_REJECTED_PERCENT = 100
    api.execute_run(run)
    assert not run.checks.filter(passed=False, blocking=True).exists() and read_warehouse()[1] == 1


def test_run_over_its_time_limit_fails(fast_heartbeat: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(task: Task, report: Report) -> Landed:
        Run.objects.update(started_at=ago(hours=5))
        began = ago()
        while ago(seconds=60) < began:
            report("fact_sales", 1)
        raise AssertionError("the run was not ended")

    monkeypatch.setitem(STAGES, Stage.EXTRACT, endless)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(TimedOut):
        api.execute_run(run)
    run = fresh(run)
    assert (run.state, run.cause_kind) == (State.FAILED, CauseKind.MACHINE)
    assert run.cause == "The run took longer than its limit of 14400 s. Nothing was published."
    assert run.tasks.get(state=State.FAILED).cause == run.cause


def test_time_limit_between_tasks_fails_the_run(broker: FakeBroker) -> None:
    run = start_queued_run()
    tasks.execute(broker.take_sent()[0])
    Run.objects.update(started_at=ago(hours=5))
    reap()
    assert fresh(run).state == State.FAILED and "limit of 14400 s" in fresh(run).cause


# --- The reply to a commit is lost, the commit is not ---


def test_load_succeeds_when_the_commit_reply_is_lost(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = publishing.publish

    def publish_without_reply(request: publishing.PublishRequest) -> object:
        monkeypatch.setattr(publishing, "publish", publish)
        publish(request)
        raise ConnectionLost

    monkeypatch.setattr(publishing, "publish", publish_without_reply)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    api.execute_run(run)
    assert fresh(run).state == State.SUCCEEDED and run.tasks.get(stage=Stage.LOAD).attempt == 1
    load = Load.objects.get()
    assert {
        row.table: {name: getattr(row, name) for name in ("inserted", "updated", "unchanged", "deleted", "derived")}
        for row in run.row_counts.filter(task__stage=Stage.LOAD)
    } == load.counts
    assert load.counts["fact_sales"]["inserted"] == len(read_warehouse()[0]) > 100
