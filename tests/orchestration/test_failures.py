"""What fails: again later where that may help, else at once, with the cause and whose fault it was."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import OperationalError
from pytest_django.fixtures import Settings

from apps.orchestration import api
from apps.orchestration.models import CauseKind, Mode, Run, Stage, State, Task, Trigger
from apps.orchestration.worker import local, stages, tasks
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from apps.sources.orders.models import OrderItem
from apps.warehouse.models import Load
from techmarket.errors import BadData, ChecksRefused, ConnectionLost, EtlError, LockTimeout, TimedOut
from tests.orchestration.harness import FakeBroker, ago, asked, fresh, star

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
ALL = [Stage.PLAN, Stage.EXTRACT, Stage.TRANSFORM, Stage.LOAD]


def locked() -> Exception:
    error = OperationalError("database is locked")
    error.__cause__ = sqlite3.OperationalError("database is locked")
    return error


def failing(monkeypatch: pytest.MonkeyPatch, stage: Stage, times: int, error: Callable[[], Exception]) -> list[int]:
    """Tasks of this stage fail so many times in all; the list is of those that did."""
    real, hit = STAGES[stage], []

    def fail(task: Task, report: Report) -> Landed:
        if len(hit) < times:
            hit.append(task.pk)
            raise error()
        return real(task, report)

    monkeypatch.setitem(STAGES, stage, fail)
    return hit


def test_control_database_that_fails_between_two_tasks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = local.ready_tasks

    def ready(run: Run) -> list[Task]:
        if run.tasks.filter(stage=Stage.EXTRACT, state=State.SUCCEEDED).exists():
            raise locked()
        return real(run)

    monkeypatch.setattr(local, "ready_tasks", ready)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(LockTimeout):
        api.execute_run(run)
    assert fresh(run).state == State.FAILED and fresh(run).cause.startswith("control database (")


@pytest.mark.parametrize(("stage", "kind"), [*((stage, ConnectionLost) for stage in ALL), (Stage.LOAD, LockTimeout)])
def test_transient_failure_is_tried_again(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, stage: Stage, kind: type[EtlError]) -> None:
    hit = failing(monkeypatch, stage, 2, kind)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    api.execute_run(run)
    assert fresh(run).state == State.SUCCEEDED and star()[1] == 1
    attempts = dict(run.tasks.values_list("pk", "attempt"))
    assert {pk: attempts[pk] - 1 for pk in hit} == {pk: hit.count(pk) for pk in hit}
    assert sum(attempts.values()) == len(attempts) + 2
    assert set(run.tasks.values_list("cause", "cause_kind")) == {("", "")}
    kept = [(attempt.task_id, attempt.number, attempt.cause, attempt.cause_kind) for attempt in run.attempts.all()]
    assert kept == [(pk, hit[:place].count(pk) + 1, kind.__doc__, CauseKind.MACHINE) for place, pk in enumerate(hit)]


def test_failure_of_the_control_database_is_transient_too(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's error that no source and no warehouse has claimed is the ledger's own."""
    failing(monkeypatch, Stage.TRANSFORM, 1, locked)
    run = asked()
    broker.work()
    reap()  # what is to be tried later is sent by the reaper
    broker.work()
    assert fresh(run).state == State.SUCCEEDED
    assert sorted(run.tasks.values_list("attempt", flat=True))[-1] == 2


def test_queued_again_for_later_each_time_longer(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.ETL_RETRY_SECONDS = 10
    failing(monkeypatch, Stage.PLAN, 99, ConnectionLost)
    run = asked()
    task = run.tasks.get()
    for attempt, wait in ((1, 10), (2, 40)):
        assert broker.take() == [task.pk]
        before = ago(milliseconds=1)  # SQLite knows no less
        tasks.execute(task.pk)
        task.refresh_from_db()
        assert (task.state, task.attempt, task.message_sent_at) == (State.QUEUED, attempt, None)
        assert task.cause == ConnectionLost.__doc__ and fresh(run).state == State.RUNNING
        assert task.not_before and before <= task.not_before - timedelta(seconds=wait) <= ago()
        reap()
        assert broker.take() == [], "too early"
        Task.objects.update(not_before=ago(seconds=1))
        reap()
    assert broker.take() == [task.pk]
    tasks.execute(task.pk)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (State.FAILED, settings.ETL_ATTEMPTS)
    run = fresh(run)
    assert (run.state, run.cause, run.cause_kind) == (State.FAILED, ConnectionLost.__doc__, CauseKind.MACHINE)
    reap()
    assert broker.take() == []


def test_scheduled_run_waits_five_minutes_each_time(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    failing(monkeypatch, Stage.PLAN, 99, ConnectionLost)
    run = asked(trigger=Trigger.SCHEDULE)
    for _ in range(2):
        before = ago(milliseconds=1)  # SQLite knows no less
        tasks.execute(broker.take()[0])
        waits = run.tasks.get().not_before
        assert waits and before <= waits - timedelta(minutes=5) <= ago()
        Task.objects.update(not_before=ago(seconds=1))
        reap()
    tasks.execute(broker.take()[0])
    assert fresh(run).state == State.FAILED and run.tasks.get().attempt == 3


@pytest.mark.parametrize("stage", ALL)
def test_terminal_failure_ends_the_run_at_once(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    hit = failing(monkeypatch, stage, 99, lambda: BadData("Row 7 is green."))
    run = asked()
    broker.work()
    run = fresh(run)
    assert (run.state, run.cause, run.cause_kind) == (State.FAILED, "Row 7 is green.", CauseKind.DATA)
    assert run.finished_at and len(hit) == 1 and star() == ([], 0)
    failed = run.tasks.get(state=State.FAILED)
    assert (failed.pk, failed.stage, failed.attempt, failed.cause) == (hit[0], stage, 1, "Row 7 is green.")
    assert not run.tasks.filter(state=State.RUNNING).exists()


def test_what_nobody_expected_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, Stage.TRANSFORM, 1, lambda: ZeroDivisionError("division by zero"))
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(ZeroDivisionError):
        api.execute_run(run)
    assert fresh(run).cause == "Unexpected ZeroDivisionError: division by zero. Nothing was published."
    assert fresh(run).cause_kind == CauseKind.MACHINE


def test_checks_refuse_and_what_they_said_is_kept(settings: Settings) -> None:
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    settings.ETL_MAX_REJECTED_PERCENT = 0
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    for _ in range(2):  # and once more, resumed: not twice as many
        with pytest.raises(ChecksRefused):
            api.execute_run(run)
        run = fresh(run)
        assert (run.state, run.cause_kind) == (State.FAILED, CauseKind.DATA)
        assert run.cause.startswith("Blocking checks failed: ") and "share rejected" in run.cause
        assert {check.name for check in run.checks.filter(passed=False, blocking=True)} == {"share rejected"}
        assert run.checks.filter(passed=True).count() > 20
        assert run.checks.count() == run.checks.values("name", "table").distinct().count()
        assert star() == ([], 0)
        run = api.resume_run(run.pk)
    settings.ETL_MAX_REJECTED_PERCENT = 50
    api.execute_run(run)
    assert not run.checks.filter(passed=False, blocking=True).exists() and star()[1] == 1


def test_run_that_takes_too_long(quick_heart: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(task: Task, report: Report) -> Landed:
        Run.objects.update(started_at=ago(hours=5))
        began = ago()
        while ago(seconds=60) < began:
            report("fact_sales", 1)
        raise AssertionError("nobody ended it")

    monkeypatch.setitem(STAGES, Stage.EXTRACT, endless)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(TimedOut):
        api.execute_run(run)
    run = fresh(run)
    assert (run.state, run.cause_kind) == (State.FAILED, CauseKind.MACHINE)
    assert run.cause == "The run took longer than its limit of 14400 s. Nothing was published."
    assert run.tasks.get(state=State.FAILED).cause == run.cause


def test_run_whose_time_is_up_between_two_tasks(broker: FakeBroker) -> None:
    run = asked()
    tasks.execute(broker.take()[0])
    Run.objects.update(started_at=ago(hours=5))
    reap()
    assert fresh(run).state == State.FAILED and "limit of 14400 s" in fresh(run).cause


# --- The answer to a commit may be lost; the commit is not ---


def test_commit_whose_answer_was_lost(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = stages.publish

    def lost(request: stages.PublishRequest) -> object:
        monkeypatch.setattr(stages, "publish", publish)
        publish(request)
        raise ConnectionLost

    monkeypatch.setattr(stages, "publish", lost)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    api.execute_run(run)
    assert fresh(run).state == State.SUCCEEDED and run.tasks.get(stage=Stage.LOAD).attempt == 2
    load = Load.objects.get()
    assert {
        row.table: {name: getattr(row, name) for name in ("inserted", "updated", "unchanged", "deleted", "derived")}
        for row in run.row_counts.filter(task__stage=Stage.LOAD)
    } == load.counts
    assert load.counts["fact_sales"]["inserted"] == len(star()[0]) > 100
