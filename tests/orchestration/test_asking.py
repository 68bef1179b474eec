"""What is asked for: one active run, the same again, going on with one that failed, a dry run."""

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
from apps.orchestration.worker.stages import STAGES, Landed, Report
from apps.warehouse.models import Load
from techmarket.errors import BadData
from tests.orchestration.harness import FakeBroker, ago, asked, at_once, fresh, star

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


class Opened:
    """Counts the snapshots that are opened of the sources."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.aliases: list[str] = []
        real = snapshot.open_snapshot
        monkeypatch.setattr(snapshot, "open_snapshot", lambda alias: (self.aliases.append(alias), real(alias))[1])


def carried_out(mode: Mode = Mode.FULL, **options: Any) -> Run:
    run = api.start_run(mode, Trigger.CLI, "test", **options)
    api.execute_run(run)
    return fresh(run)


def broken(monkeypatch: pytest.MonkeyPatch, stage: Stage, subject: str = "") -> None:
    """The first task of this stage (on this subject) fails for good; the next is as ever."""
    real = STAGES[stage]

    def fail(task: Task, report: Report) -> Landed:
        if subject and task.subject != subject:
            return real(task, report)
        monkeypatch.setitem(STAGES, stage, real)
        raise BadData("It is broken.")

    monkeypatch.setitem(STAGES, stage, fail)


def failed_run(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, stage: Stage = Stage.LOAD, subject: str = "") -> Run:
    broken(monkeypatch, stage, subject)
    run = asked()
    broker.work()
    assert fresh(run).state == State.FAILED
    return fresh(run)


# --- One active run ---


def test_database_allows_one_active_run() -> None:
    Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="one")
    for state in (State.QUEUED, State.RUNNING):
        with pytest.raises(IntegrityError), transaction.atomic():
            Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="two", state=state)
    Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="three", state=State.SKIPPED)


def test_loser_is_recorded_as_skipped(broker: FakeBroker) -> None:
    active, loser = asked(), asked(Mode.INCREMENTAL)
    assert (loser.state, loser.overlaps, loser.mode) == (State.SKIPPED, active, Mode.INCREMENTAL)
    assert loser.cause.startswith(f"Skipped: overlaps run {active.pk} requested by test, queued since ")
    assert not loser.tasks.exists() and fresh(loser).finished_at
    assert broker.take() == [active.tasks.get().pk]


def test_twenty_at_once_are_one_run(broker: FakeBroker) -> None:
    states = [run.state for run in at_once(20, asked)]
    assert sorted(states) == [State.QUEUED] + [State.SKIPPED] * 19
    assert Run.objects.count() == 20 and Task.objects.count() == 1
    assert broker.take() == [Task.objects.get().pk]
    winner = Run.objects.get(state=State.QUEUED)
    assert set(Run.objects.filter(state=State.SKIPPED).values_list("overlaps", flat=True)) == {winner.pk}


# --- The same again ---


def test_rerun_settles_its_window_anew() -> None:
    carried_out()
    changes.apply(5, 1)
    first = carried_out(Mode.INCREMENTAL)
    assert first.window_start and first.window_end is None
    Load.objects.update(high_water_mark=first.high_water_mark - timedelta(days=2))
    second = api.rerun(first, "olena", Trigger.ADMIN, reason="to be sure")
    assert (second.rerun_of, second.requested_by, second.trigger, second.window_start) == (first, "olena", Trigger.ADMIN, None)
    api.execute_run(second)
    second.refresh_from_db()
    assert second.window_start == first.high_water_mark - timedelta(days=2, minutes=10)
    assert fresh(first).state == State.SUCCEEDED


def test_rerun_keeps_the_window_that_was_asked_for(broker: FakeBroker) -> None:
    span = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC))
    first = asked(Mode.INCREMENTAL, window=Window(*span), dry_run=True)
    api.cancel_run(first.pk, "test")
    second = api.rerun(fresh(first), "test", Trigger.CLI, queue=True)
    assert (second.window_start, second.window_end, second.dry_run, second.rerun_of) == (*span, True, first)


# --- Resume ---


@pytest.mark.parametrize("queue", [False, True])
def test_resume_starts_at_the_task_that_failed_and_reads_no_source(
    monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, queue: bool
) -> None:
    run = failed_run(monkeypatch, broker, Stage.LOAD)
    assert (run.cause, run.cause_kind) == ("It is broken.", "data")
    done = dict(run.tasks.filter(state=State.SUCCEEDED).values_list("pk", "finished_at"))
    assert len(done) == run.tasks.count() - 1
    opened = Opened(monkeypatch)
    resumed = api.resume_run(run.pk, queue=queue)
    assert (resumed.pk, resumed.state, resumed.cause, resumed.cause_kind) == (run.pk, State.QUEUED, "", "")
    broker.work() if queue else api.execute_run(resumed)
    assert fresh(run).state == State.SUCCEEDED and star()[1] == 1
    assert opened.aliases == []
    assert dict(run.tasks.filter(pk__in=done).values_list("pk", "finished_at")) == done


def test_resume_of_an_extract_reads_what_has_not_landed(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = failed_run(monkeypatch, broker, Stage.EXTRACT, "dim_region")
    opened = Opened(monkeypatch)
    api.resume_run(run.pk, queue=True)
    broker.work()
    assert fresh(run).state == State.SUCCEEDED
    undone = {"dim_region"} | set(opened.aliases)
    assert "payments_db" not in undone and opened.aliases.count("orders_db") <= 3
    alone = star()
    carried_out()
    assert star()[0] == alone[0]


def refused(run: Run | int, skipped: bool, words: str) -> None:
    before = list(Run.objects.values())
    with pytest.raises(api.CannotResume, match=words) as error:
        api.resume_run(run if isinstance(run, int) else run.pk)
    assert error.value.skipped is skipped
    assert list(Run.objects.values()) == before


def test_resume_of_an_unknown_run() -> None:
    refused(4_711, False, r"There is no run 4711\. `manage.py run_etl` starts a new one\.")


def test_resume_of_a_run_that_has_succeeded() -> None:
    refused(carried_out(), True, "has succeeded already")


def test_resume_of_an_active_and_of_a_skipped_run(broker: FakeBroker) -> None:
    active, loser = asked(), asked()
    refused(active, True, "it is active")
    refused(loser, False, "was skipped: there is nothing to resume")


def test_resume_while_another_is_active(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = failed_run(monkeypatch, broker)
    active = asked()
    refused(run, True, f"Skipped: overlaps run {active.pk}")


def test_resume_of_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, Stage.LOAD)
    run = api.start_run(Mode.FULL, Trigger.CLI, "test", dry_run=True)
    with pytest.raises(BadData):
        api.execute_run(run)
    assert fresh(run).state == State.FAILED and not run.tasks.exists()
    refused(run, False, "was a dry run")


def test_resume_after_a_later_run(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = failed_run(monkeypatch, broker)
    later = carried_out()
    refused(run, False, f"Run {later.pk} was published after run {run.pk} was requested: its batches are stale")


def test_resume_without_batches(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, settings: Settings) -> None:
    run = failed_run(monkeypatch, broker)
    Run.objects.update(finished_at=ago(days=8))
    delete_old_details()
    refused(run, False, "batches .* have been deleted")


def test_old_details_go_and_the_run_stays(settings: Settings) -> None:
    run = carried_out()
    Run.objects.update(finished_at=ago(days=364))
    delete_old_details()
    assert run.tasks.exists() and not run.batches.exists()
    Run.objects.update(finished_at=ago(days=366))
    delete_old_details()
    assert Run.objects.filter(pk=run.pk).exists() and not run.tasks.exists() and not run.row_counts.exists()


def test_two_who_resume_at_once(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    run = failed_run(monkeypatch, broker)

    def resume() -> bool:
        try:
            return bool(api.resume_run(run.pk, queue=True))
        except api.CannotResume as error:
            assert error.skipped
            return False

    assert sorted(at_once(4, resume)) == [False, False, False, True]
    broker.work()
    assert fresh(run).state == State.SUCCEEDED and star()[1] == 1


# --- What is kept ---


def test_dry_run_keeps_nothing_but_its_row(broker: FakeBroker) -> None:
    run = asked(dry_run=True)
    broker.work()
    run = fresh(run)
    assert run.state == State.SUCCEEDED and star() == ([], 0)
    for left in (run.tasks, run.batches, run.row_counts, run.rejects, run.checks):
        assert not left.exists()
    assert run.result and run.result["tables"]["fact_sales"]["inserted"] > 100
    assert sum(float(after) for _, after in run.result["net_by_month"].values()) > 0
    assert api.row_counts(run) == run.result["tables"]


def test_batches_are_forgotten_after_some_days(settings: Settings) -> None:
    old = carried_out()
    assert Batch.objects.filter(run=old).count() > 10
    Run.objects.filter(pk=old.pk).update(finished_at=ago(days=settings.ETL_KEEP_BATCHES_DAYS, minutes=-5))
    new = carried_out()
    assert Batch.objects.filter(run=old).exists(), "five minutes too early"
    Run.objects.filter(pk=old.pk).update(finished_at=ago(days=settings.ETL_KEEP_BATCHES_DAYS, minutes=5))
    last = carried_out()
    assert set(Batch.objects.values_list("run", flat=True)) == {new.pk, last.pk}
    assert old.row_counts.exists() and old.tasks.count() == new.tasks.count()
