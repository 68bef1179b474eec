"""Starting, repeating and resuming runs; one active run at a time; what a dry run leaves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from pytest_django.fixtures import Settings

from apps.demo import changes
from apps.etl.extract import snapshot
from apps.orchestration import api
from apps.orchestration.models import Batch, Mode, Run, Stage, State, Task, Trigger
from apps.orchestration.outcome import delete_old_details
from apps.orchestration.window import Window
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from apps.warehouse.models import Load
from techmarket.errors import BadData
from tests.orchestration.harness import FakeBroker, ago, fresh, read_warehouse, run_concurrently, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


class SnapshotRecorder:
    """Records the aliases of the sources on which a snapshot is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.aliases: list[str] = []
        real = snapshot.open_session
        monkeypatch.setattr(snapshot, "open_session", lambda alias, wait: (self.aliases.append(alias), real(alias, wait))[1])


def execute_run(mode: Mode = Mode.FULL, **options: Any) -> Run:
    run = api.start_run(mode, Trigger.CLI, "test", **options)
    api.execute_run(run)
    return fresh(run)


def break_stage(monkeypatch: pytest.MonkeyPatch, stage: Stage, subject: str = "") -> None:
    """Let the first task of this stage (on this subject) fail with a terminal error; later ones execute as usual."""
    real = STAGES[stage]

    def fail(task: Task, report: Report) -> Landed:
        if subject and task.subject != subject:
            return real(task, report)
        monkeypatch.setitem(STAGES, stage, real)
        raise BadData("It is broken.")

    monkeypatch.setitem(STAGES, stage, fail)


def create_failed_run(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, stage: Stage = Stage.LOAD, subject: str = "") -> Run:
    break_stage(monkeypatch, stage, subject)
    run = start_queued_run()
    broker.deliver_all()
    assert fresh(run).state == State.FAILED
    return fresh(run)


# --- One active run ---


def test_database_allows_one_active_run() -> None:
    Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="one")
    for state in (State.QUEUED, State.RUNNING):
        with pytest.raises(IntegrityError), transaction.atomic():
            Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="two", state=state)
    Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="three", state=State.SKIPPED)


def test_overlapping_run_is_recorded_as_skipped(broker: FakeBroker) -> None:
    active, loser = start_queued_run(), start_queued_run(Mode.INCREMENTAL)
    assert (loser.state, loser.overlaps, loser.mode) == (State.SKIPPED, active, Mode.INCREMENTAL)
    assert loser.cause.startswith(f"Skipped: overlaps run {active.pk} requested by test, queued since ")
    assert loser.cause.endswith(", taken by no worker yet. Run it again when that one has ended.") and "heartbeat" not in loser.cause
    assert not loser.tasks.exists() and fresh(loser).finished_at
    assert broker.take_sent() == [active.tasks.get().pk]


def test_twenty_concurrent_requests_start_one_run(broker: FakeBroker) -> None:
    states = [run.state for run in run_concurrently(20, start_queued_run)]
    assert sorted(states) == [State.QUEUED] + [State.SKIPPED] * 19
    assert Run.objects.count() == 20 and Task.objects.count() == 1
    assert broker.take_sent() == [Task.objects.get().pk]
    winner = Run.objects.get(state=State.QUEUED)
    assert set(Run.objects.filter(state=State.SKIPPED).values_list("overlaps", flat=True)) == {winner.pk}


# --- Rerun ---


def test_rerun_derives_its_window_again() -> None:
    execute_run()
    changes.apply(5, 1)
    first = execute_run(Mode.INCREMENTAL)
    assert first.window_start and first.window_end is None
    Load.objects.update(high_water_mark=first.high_water_mark - timedelta(days=2))
    second = api.rerun(first, "olena", Trigger.ADMIN, reason="to be sure")
    assert (second.rerun_of, second.requested_by, second.trigger, second.window_start) == (first, "olena", Trigger.ADMIN, None)
    api.execute_run(second)
    second.refresh_from_db()
    assert second.window_start == first.high_water_mark - timedelta(days=2, minutes=10)
    assert fresh(first).state == State.SUCCEEDED


def test_rerun_keeps_an_explicit_window(broker: FakeBroker) -> None:
    span = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC))
    first = start_queued_run(Mode.INCREMENTAL, window=Window(*span), dry_run=True)
    api.cancel_run(first.pk, "test")
    second = api.rerun(fresh(first), "test", Trigger.CLI, queue=True)
    assert (second.window_start, second.window_end, second.dry_run, second.rerun_of) == (*span, True, first)


# --- Resume ---


@pytest.mark.parametrize("queue", [False, True])
def test_resume_skips_succeeded_tasks_and_reads_no_source(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, queue: bool) -> None:
    run = create_failed_run(monkeypatch, broker, Stage.LOAD)
    assert (run.cause, run.cause_kind) == ("It is broken.", "data")
    done = dict(run.tasks.filter(state=State.SUCCEEDED).values_list("pk", "finished_at"))
    assert len(done) == run.tasks.count() - 1
    snapshots = SnapshotRecorder(monkeypatch)
    resumed = api.resume_run(run.pk, queue=queue)
    assert (resumed.pk, resumed.state, resumed.cause, resumed.cause_kind) == (run.pk, State.QUEUED, "", "")
    broker.deliver_all() if queue else api.execute_run(resumed)
    assert fresh(run).state == State.SUCCEEDED and read_warehouse()[1] == 1
    assert snapshots.aliases == []
    assert dict(run.tasks.filter(pk__in=done).values_list("pk", "finished_at")) == done


def test_resume_of_an_extract_reads_only_unlanded_slices(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = create_failed_run(monkeypatch, broker, Stage.EXTRACT, "dim_region")
    snapshots = SnapshotRecorder(monkeypatch)
    api.resume_run(run.pk, queue=True)
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED
    undone = {"dim_region"} | set(snapshots.aliases)
    assert "payments_db" not in undone and snapshots.aliases.count("orders_db") <= 3
    resumed_rows = read_warehouse()
    execute_run()
    assert read_warehouse()[0] == resumed_rows[0]


def assert_cannot_resume(run: Run | int, skipped: bool, message: str) -> None:
    before = list(Run.objects.values())
    with pytest.raises(api.CannotResume, match=message) as error:
        api.resume_run(run if isinstance(run, int) else run.pk)
    assert error.value.skipped is skipped
    assert list(Run.objects.values()) == before


def test_resume_of_an_unknown_run_is_refused() -> None:
    assert_cannot_resume(4_711, False, r"There is no run 4711\. `manage.py run_etl` starts a new one\.")


def test_resume_of_a_succeeded_run_is_refused() -> None:
    assert_cannot_resume(execute_run(), True, "has succeeded already")


def test_resume_of_an_active_or_skipped_run_is_refused(broker: FakeBroker) -> None:
    active, loser = start_queued_run(), start_queued_run()
    assert_cannot_resume(active, True, "it is active")
    assert_cannot_resume(loser, False, "was skipped: there is nothing to resume")


def test_resume_while_another_run_is_active_is_refused(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = create_failed_run(monkeypatch, broker)
    active = start_queued_run()
    assert_cannot_resume(run, True, f"Skipped: overlaps run {active.pk}")


def test_resume_of_a_dry_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, Stage.LOAD)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test", dry_run=True)
    with pytest.raises(BadData):
        api.execute_run(run)
    assert fresh(run).state == State.FAILED and not run.tasks.exists()
    assert_cannot_resume(run, False, "was a dry run")


def test_resume_after_a_later_publish_is_refused(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = create_failed_run(monkeypatch, broker)
    later = execute_run()
    assert_cannot_resume(run, False, f"Run {later.pk} was published after run {run.pk} was requested: its batches are stale")


def test_resume_without_batches_is_refused(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, settings: Settings) -> None:
    run = create_failed_run(monkeypatch, broker)
    Run.objects.update(finished_at=ago(days=8))
    delete_old_details()
    assert_cannot_resume(run, False, "batches .* have been deleted")


def test_old_details_are_deleted_but_the_run_stays(settings: Settings) -> None:
    run = execute_run()
    Run.objects.update(finished_at=ago(days=364))
    delete_old_details()
    assert run.tasks.exists() and not run.batches.exists()
    Run.objects.update(finished_at=ago(days=366))
    delete_old_details()
    assert Run.objects.filter(pk=run.pk).exists() and not run.tasks.exists() and not run.row_counts.exists()


def test_concurrent_resumes_start_the_run_once(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = create_failed_run(monkeypatch, broker)

    def resume() -> bool:
        try:
            return bool(api.resume_run(run.pk, queue=True))
        except api.CannotResume as error:
            assert error.skipped
            return False

    assert sorted(run_concurrently(4, resume)) == [False, False, False, True]
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and read_warehouse()[1] == 1


# --- What is kept, and for how long ---


def test_dry_run_leaves_only_its_run_row(broker: FakeBroker) -> None:
    run = start_queued_run(dry_run=True)
    broker.deliver_all()
    run = fresh(run)
    assert run.state == State.SUCCEEDED and read_warehouse() == ([], 0)
    for details in (run.tasks, run.batches, run.row_counts, run.rejects, run.checks):
        assert not details.exists()
    assert run.result and run.result["tables"]["fact_sales"]["inserted"] > 100
    assert sum(float(after) for _, after in run.result["net_by_month"].values()) > 0
    assert api.row_counts(run) == run.result["tables"]


def test_batches_are_deleted_after_the_retention_period(settings: Settings) -> None:
    old = execute_run()
    assert Batch.objects.filter(run=old).count() > 10
    Run.objects.filter(pk=old.pk).update(finished_at=ago(days=settings.ETL_KEEP_BATCHES_DAYS, minutes=-5))
    changes.apply(5, 1)
    new = execute_run()
    assert Batch.objects.filter(run=old).exists(), "five minutes too early"
    Run.objects.filter(pk=old.pk).update(finished_at=ago(days=settings.ETL_KEEP_BATCHES_DAYS, minutes=5))
    changes.apply(5, 2)
    last = execute_run()
    assert set(Batch.objects.values_list("run", flat=True)) == {new.pk, last.pk}
    assert old.row_counts.exists() and old.tasks.count() >= new.tasks.count()


@pytest.mark.parametrize(
    ("mode", "stage"),
    [
        (Mode.FULL, Stage.TRANSFORM),
        (Mode.FULL, Stage.LOAD),
        (Mode.INCREMENTAL, Stage.EXTRACT),
        (Mode.INCREMENTAL, Stage.TRANSFORM),
        (Mode.INCREMENTAL, Stage.LOAD),
    ],
)
def test_run_of_a_restored_ledger_ends_without_its_batches(
    mode: Mode, stage: Stage, monkeypatch: pytest.MonkeyPatch, broker: FakeBroker
) -> None:
    """A backup has no batches: a transform without them would take it for rows that have not changed, and publish."""
    execute_run()
    changes.apply(20, 1)
    break_stage(monkeypatch, stage)
    run = start_queued_run(mode)
    broker.deliver_all()
    before, task = read_warehouse(), run.tasks.get(stage=stage, state=State.FAILED)
    Batch.objects.all().delete()
    assert_cannot_resume(run, False, "batches .* have been deleted")
    # As the reaper leaves a run that was active when the backup was made.
    Task.objects.filter(pk=task.pk).update(state=State.QUEUED, attempt=0, claim=None, message_sent_at=None, not_before=None)
    Run.objects.filter(pk=run.pk).update(state=State.RUNNING, finished_at=None, cause="")
    reap()
    broker.deliver_all()
    assert fresh(run).state == State.FAILED
    assert fresh(run).cause == "The batches of this run are gone: a backup, which has none, was restored. Start a new run."
    assert read_warehouse() == before


def test_published_run_of_a_restored_ledger_is_settled_without_its_batches(small_shop: Any, broker: FakeBroker) -> None:
    """It was published between the dumps of the ledger and the warehouse; its standing rejects stay until a later run."""
    execute_run()
    run = execute_run(Mode.INCREMENTAL)
    Batch.objects.all().delete()
    Task.objects.filter(run=run, stage=Stage.LOAD).update(state=State.RUNNING, worker="elsewhere:1", heartbeat_at=ago(days=1))
    Run.objects.filter(pk=run.pk).update(state=State.RUNNING, finished_at=None)
    reap()
    assert fresh(run).state == State.SUCCEEDED
