"""The ledger follows etl_load: a run that was published has succeeded, whatever happened to its process or its connection."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connections
from django_celery_beat.models import PeriodicTask

from apps.orchestration import api, clock
from apps.orchestration.models import CauseKind, Mode, RowCount, Run, Schedule, ScheduledRun, Stage, State, Task, Trigger
from apps.orchestration.publication import UNKNOWN
from apps.orchestration.requests import CannotResume, check_resumable
from apps.orchestration.schedules import fire, next_instants, set_enabled
from apps.orchestration.worker.beat import LivenessScheduler
from apps.orchestration.worker.recovery import reap
from apps.warehouse.models import Load
from techmarket.celery import app
from techmarket.errors import Unreachable
from techmarket.messages import message
from tests.orchestration.harness import FakeBroker, ago, fresh, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


def forget_success(run: Run, state: State) -> None:
    """Leave the ledger as a process does that died between the warehouse's commit and the ledger's."""
    active = state == State.RUNNING
    ended = {} if active else {"cause": message("task.heartbeat_stopped", worker="dead:1", instant="x"), "cause_kind": CauseKind.MACHINE}
    RowCount.objects.filter(task__stage=Stage.LOAD).delete()
    Task.objects.filter(run=run, stage=Stage.LOAD).update(
        state=state, worker="dead:1", heartbeat_at=ago(seconds=25), session={"committing": True}
    )
    Run.objects.filter(pk=run.pk).update(state=state, worker="dead:1", heartbeat_at=ago(seconds=31), **ended)


@pytest.fixture
def published() -> Run:
    return api.run("full")


@pytest.fixture
def dead_warehouse(published: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    is_server = connections["dwh"].vendor == "postgresql"
    connections["dwh"].close()
    for name, value in ({"HOST": "127.0.0.1", "PORT": "1"} if is_server else {"NAME": "/dev/null/canary"}).items():
        monkeypatch.setitem(connections["dwh"].settings_dict, name, value)
    yield monkeypatch
    monkeypatch.undo()
    connections["dwh"].close()


@pytest.mark.parametrize("state", [State.RUNNING, State.LOST, State.FAILED, State.CANCELLED])
def test_published_run_succeeds_at_the_next_reap(published: Run, state: State) -> None:
    """The run's heartbeat is older than the load's, which its process wrote later; so it was lost without a question."""
    forget_success(published, state)
    reap()
    run = fresh(published)
    assert (run.state, run.cause) == (State.SUCCEEDED, "") and not run.has_unfinished_tasks
    inserted = {row.table: row.inserted for row in RowCount.objects.filter(task__stage=Stage.LOAD)}
    assert inserted == {table: row["inserted"] for table, row in Load.objects.get().counts.items()}


def test_published_run_is_not_resumed(published: Run) -> None:
    forget_success(published, State.LOST)
    with pytest.raises(CannotResume, match="has succeeded already"):
        check_resumable(fresh(published))
    assert fresh(published).state == State.SUCCEEDED


def test_unknown_while_the_warehouse_is_away(published: Run, dead_warehouse: pytest.MonkeyPatch) -> None:
    forget_success(published, State.RUNNING)
    reap()
    run = fresh(published)
    assert (run.state, run.cause.code) == (State.LOST, UNKNOWN) and "othing was published" not in run.cause
    assert not run.tasks.filter(state=State.RUNNING).exists()
    with pytest.raises(CannotResume, match="is unknown"):
        check_resumable(run)
    dead_warehouse.undo()
    reap()
    assert fresh(run).state == State.SUCCEEDED


def test_unknown_run_that_was_not_published_says_so_later(published: Run, dead_warehouse: pytest.MonkeyPatch) -> None:
    forget_success(published, State.RUNNING)
    reap()
    dead_warehouse.undo()
    Load.objects.all().delete()
    reap()
    run = fresh(published)
    assert run.state == State.LOST and run.cause.endswith("Nothing was published.")


def test_local_run_outlives_a_worker_of_its_pool(published: Run) -> None:
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    task = run.tasks.get()
    assert task.claim_for("dead:9")
    Run.objects.filter(pk=run.pk).update(state=State.RUNNING, worker="alive:1", heartbeat_at=ago())
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=31))
    reap()
    assert (fresh(run).state, fresh(task).state) == (State.RUNNING, State.QUEUED)


def test_scheduled_plan_is_retried_where_a_server_refuses(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task: Task, report: object) -> object:
        raise Unreachable("orders_db does not answer.")

    monkeypatch.setitem(api.execute_run.__globals__["Worker"].work.__globals__["STAGES"], Stage.PLAN, refuse)
    run = start_queued_run(trigger=Trigger.SCHEDULE)
    broker.deliver_all()
    task = run.tasks.get()
    assert fresh(run).is_active and task.state == State.QUEUED and task.not_before > clock.now() + timedelta(seconds=200)


def test_future_instants_are_mended(published: Run) -> None:
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    Run.objects.filter(pk=run.pk).update(heartbeat_at=ago(hours=-5), started_at=ago(hours=-5))
    reap()
    run = fresh(run)
    assert run.heartbeat_at < clock.now() + timedelta(seconds=5) and run.started_at < clock.now() + timedelta(seconds=5)


@pytest.mark.usefixtures("schedules")
def test_beat_goes_on_after_a_last_run_in_the_future() -> None:
    PeriodicTask.objects.filter(name="techmarket-reap").update(last_run_at=ago(days=-30))
    beat = LivenessScheduler(app=app, lazy=True)
    beat.mend_future_instants()
    assert PeriodicTask.objects.get(name="techmarket-reap").last_run_at < clock.now() + timedelta(seconds=5)
    assert beat.schedule["techmarket-reap"].is_due()[1] <= 15


@pytest.mark.usefixtures("schedules")
def test_message_of_beat_never_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    beat = LivenessScheduler(app=app, lazy=True)
    monkeypatch.setattr(LivenessScheduler, "send_task", lambda self, *args, **options: sent.append(options))
    task = app.tasks["techmarket.reap"]
    monkeypatch.setattr(task, "apply_async", lambda *args, **options: sent.append(options))
    beat.apply_async(beat.schedule["techmarket-reap"], producer=None, advance=False)
    assert sent and "expires" not in sent[0]


@pytest.mark.usefixtures("schedules", "broker")
def test_schedule_enabled_in_the_future_and_a_future_run_do_not_silence_it() -> None:
    name = "techmarket-etl-daily"
    Schedule.objects.filter(name=name).update(enabled_since=ago(days=-9))
    ScheduledRun.objects.create(schedule_id=name, scheduled_for=next_instants(name, 1)[0], decision="run")
    fire(name)
    assert Schedule.objects.get(name=name).enabled_since <= clock.now() and not ScheduledRun.objects.filter(scheduled_for__gt=clock.now())


@pytest.mark.usefixtures("schedules")
def test_paused_schedule_announces_no_run() -> None:
    set_enabled("techmarket-etl-daily", enabled=False)
    assert next_instants("techmarket-etl-daily") == [] and next_instants("techmarket-etl-weekly-full")
