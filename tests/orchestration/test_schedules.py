"""Schedules: each instant starts exactly one run, through outages, restarts, duplicate beats and pauses."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import django_celery_beat.schedulers
import pytest
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry
from django_celery_beat.tzcrontab import TzAwareCrontab

from apps.orchestration import schedules
from apps.orchestration.models import Decision, Mode, Run, Schedule, ScheduledRun, State, Trigger
from apps.orchestration.schedules import (
    backfill_window,
    fire,
    fire_missed_schedules,
    missed_runs,
    next_instants,
    resolve_missed_run,
    scheduled_instants,
    set_enabled,
)
from apps.orchestration.window import Window
from apps.orchestration.worker import tasks
from techmarket.celery import app
from techmarket.errors import Usage
from tests.orchestration.harness import FakeBroker, fresh, run_concurrently
from tests.orchestration.test_scheduled_instants import crontab

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
DAILY, WEEKLY = "techmarket-etl-daily", "techmarket-etl-weekly-full"
KYIV = ZoneInfo("Europe/Kyiv")
START = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)  # a Monday


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """Return an instant of November 2026, in UTC."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class Clock:
    """Replaces the time for the schedules and for beat."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: datetime):
        self.now = now
        monkeypatch.setattr("django.utils.timezone.now", lambda: self.now)
        monkeypatch.setattr("apps.orchestration.clock.now", lambda: self.now)
        monkeypatch.setattr(TzAwareCrontab, "nowfunc", lambda crontab: self.now.astimezone(crontab.tz))
        monkeypatch.setattr(ModelEntry, "_default_now", lambda entry: self.now)
        monkeypatch.setattr(django_celery_beat.schedulers, "aware_now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, schedules: None) -> Clock:
    """Set the time to Monday noon, and the creation of the schedules with it."""
    clock = Clock(monkeypatch, START)
    Schedule.objects.update(enabled_since=START)
    PeriodicTask.objects.update(date_changed=START)
    return clock


@pytest.fixture(autouse=True)
def workers(broker: FakeBroker) -> FakeBroker:
    return broker


def finish_runs() -> None:
    Run.objects.filter(state__in=["queued", "running"]).update(state=State.SUCCEEDED)


def change_periodic_task(name: str, **fields: Any) -> None:
    beat = PeriodicTask.objects.get(name=name)
    for field, value in fields.items():
        setattr(beat, field, value)
    beat.save()


# --- What the migration creates ---


def test_migration_creates_the_two_schedules(schedules: None) -> None:
    made = {task.name: task for task in PeriodicTask.objects.filter(task="techmarket.scheduled")}
    assert set(made) == {DAILY, WEEKLY} == set(Schedule.objects.values_list("name", flat=True))
    for name, (hour, day) in {DAILY: ("2", "*"), WEEKLY: ("3", "0")}.items():
        when = made[name].crontab
        assert (when.minute, when.hour, when.day_of_week, when.day_of_month, when.month_of_year) == ("0", hour, day, "*", "*")
        assert str(when.timezone) == "UTC" and made[name].enabled and made[name].args == f'["{name}"]'
        assert Schedule.objects.get(name=name).enabled_since
    assert PeriodicTask.objects.get(name="techmarket-reap").interval.every == 15


def test_schedule_starts_runs_of_its_mode(clock: Clock, broker: FakeBroker) -> None:
    clock.now = at(8, 2)
    daily = fire(DAILY)
    finish_runs()
    clock.now = at(8, 3)
    weekly = fire(WEEKLY)
    assert daily and weekly and daily.run and weekly.run
    assert [(run.mode, run.trigger, run.requested_by, run.worker) for run in (daily.run, weekly.run)] == [
        (Mode.INCREMENTAL, Trigger.SCHEDULE, DAILY, ""),
        (Mode.FULL, Trigger.SCHEDULE, WEEKLY, ""),
    ]
    assert daily.run.reason == "run: scheduled for 2026-11-08 02:00 UTC" and daily.run.window_start is None
    assert broker.take_sent() == [run.tasks.get().pk for run in (daily.run, weekly.run)]


def test_past_instant_of_an_edited_crontab_starts_no_run(clock: Clock) -> None:
    """An instant of the new crontab that has passed already starts no run."""
    clock.now = at(3, 2)
    assert fire(DAILY)
    clock.now = at(3, 12)
    when = PeriodicTask.objects.get(name=DAILY).crontab
    when.hour = "10"
    when.save()
    assert fire(DAILY) is None and not missed_runs()
    change_periodic_task(DAILY, crontab=CrontabSchedule.objects.create(hour="11", minute="30", timezone=ZoneInfo("UTC")))
    assert fire(DAILY) is None and not missed_runs()
    assert next_instants(DAILY, 2) == [at(4, 11, 30), at(5, 11, 30)]
    clock.now = at(4, 11, 30)
    assert (scheduled := fire(DAILY)) and scheduled.decision == Decision.RUN


def test_unknown_schedule_starts_no_run(clock: Clock) -> None:
    clock.now = at(3, 2)
    assert fire("techmarket-etl-hourly") is None and next_instants("techmarket-etl-hourly") == []
    PeriodicTask.objects.create(name="by hand", task="techmarket.scheduled", crontab=PeriodicTask.objects.get(name=DAILY).crontab)
    assert fire("by hand") is None
    with pytest.raises(Usage, match="There is no schedule 'nightly'"):
        set_enabled("nightly", enabled=False)


# --- Exactly once ---


def test_instant_fired_twice_starts_one_run(clock: Clock) -> None:
    clock.now = at(3, 2)
    assert fire(DAILY) and fire(DAILY) is None
    clock.now = at(3, 14)
    tasks.scheduled(DAILY)
    assert Run.objects.count() == ScheduledRun.objects.count() == 1


def test_eight_concurrent_beats_start_one_run(clock: Clock, broker: FakeBroker) -> None:
    clock.now = at(3, 2)
    assert sum(scheduled is not None for scheduled in run_concurrently(8, lambda: fire(DAILY))) == 1
    assert Run.objects.count() == ScheduledRun.objects.count() == 1
    assert len(broker.take_sent()) == 1


def test_two_beats_start_one_run_per_instant(clock: Clock) -> None:
    scheduled = next_instants(DAILY, 10)
    for instant in scheduled:
        clock.now = instant
        run_concurrently(2, lambda: fire(DAILY))
        finish_runs()
    assert sorted(ScheduledRun.objects.values_list("scheduled_for", flat=True)) == scheduled
    assert Run.objects.count() == 10 and set(ScheduledRun.objects.values_list("decision", flat=True)) == {Decision.RUN}


def test_instant_is_fired_again_after_a_failed_start(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instant is recorded together with its run, or not at all."""
    clock.now, real = at(3, 2), schedules.start_run  # type: ignore[attr-defined]

    def fail_after_start(*args: Any, **options: Any) -> Run:
        real(*args, **options)
        raise ConnectionError("the power went")

    monkeypatch.setattr(schedules, "start_run", fail_after_start)
    with pytest.raises(ConnectionError):
        fire(DAILY)
    assert not ScheduledRun.objects.exists() and not Run.objects.exists()
    monkeypatch.setattr(schedules, "start_run", real)
    clock.now = at(3, 2, 1)
    assert (scheduled := fire(DAILY)) and scheduled.decision == Decision.RUN and scheduled.run


def test_overlapping_scheduled_run_is_skipped(clock: Clock) -> None:
    clock.now = at(8, 2)
    fire(DAILY)
    clock.now = at(8, 3)
    scheduled = fire(WEEKLY)
    assert (
        scheduled
        and scheduled.run
        and scheduled.run.state == State.SKIPPED
        and scheduled.run.overlaps == Run.objects.get(requested_by=DAILY)
    )


# --- Pause ---


def test_run_missed_while_paused_awaits_a_decision(clock: Clock, broker: FakeBroker) -> None:
    clock.now = at(4, 12)
    set_enabled(DAILY, enabled=False)
    for day in (5, 6):
        clock.now = at(day, 2)
        assert fire(DAILY) is None
        fire_missed_schedules()
    clock.now = at(6, 12)
    set_enabled(DAILY, enabled=True)
    assert not ScheduledRun.objects.exclude(schedule=WEEKLY).exists()
    fire_missed_schedules()
    fire_missed_schedules()
    scheduled = ScheduledRun.objects.get()
    assert (scheduled.schedule_id, scheduled.scheduled_for, scheduled.decision, scheduled.run) == (DAILY, at(6, 2), Decision.HELD, None)
    assert not Run.objects.exists() and broker.take_sent() == [] and list(missed_runs()) == [scheduled]
    clock.now = at(7, 2)
    assert (later := fire(DAILY)) and later.decision == Decision.RUN, "an instant after the pause needs no decision"


def test_pause_without_an_instant_misses_no_run(clock: Clock) -> None:
    clock.now = at(4, 12)
    set_enabled(DAILY, enabled=False)
    clock.now = at(4, 18)
    set_enabled(DAILY, enabled=True)
    fire_missed_schedules()
    assert not ScheduledRun.objects.exists()


def test_instant_before_installation_is_not_caught_up(clock: Clock) -> None:
    """Installed at noon, the schedule has not missed the run of 02:00."""
    fire_missed_schedules()
    assert not ScheduledRun.objects.exists()


@pytest.fixture
def missed(clock: Clock) -> ScheduledRun:
    """Return a scheduled run that fell into a pause."""
    Schedule.objects.filter(name=DAILY).update(paused_at=at(4, 12), enabled_since=at(6, 12))
    clock.now = at(6, 12)
    scheduled = fire(DAILY)
    assert scheduled and scheduled.decision == Decision.HELD
    return scheduled


def test_operator_runs_a_missed_run_now(missed: ScheduledRun, broker: FakeBroker) -> None:
    resolve_missed_run(missed, Decision.RUN, "olena")
    scheduled = fresh(missed)
    assert (scheduled.decision, scheduled.decided_by) == (Decision.RUN, "olena")
    assert (scheduled.run.state, scheduled.run.mode, scheduled.run.requested_by, scheduled.run.trigger) == (
        State.QUEUED,
        Mode.INCREMENTAL,
        "olena",
        Trigger.SCHEDULE,
    )
    assert broker.take_sent() == [scheduled.run.tasks.get().pk] and not missed_runs()


def test_operator_skips_a_missed_run(missed: ScheduledRun) -> None:
    resolve_missed_run(missed, Decision.SKIPPED, "olena")
    assert (fresh(missed).decision, fresh(missed).run) == (Decision.SKIPPED, None)
    fire_missed_schedules()
    assert not Run.objects.exists()


def test_operator_decides_once(missed: ScheduledRun) -> None:
    def decide_now() -> bool:
        try:
            resolve_missed_run(fresh(missed), Decision.RUN, "olena")
        except Usage:
            return False
        return True

    assert sorted(run_concurrently(4, decide_now)) == [False, False, False, True]
    assert Run.objects.count() == 1
    with pytest.raises(Usage, match="has been decided already"):
        resolve_missed_run(missed, Decision.SKIPPED, "petro")


def test_operator_backfills_a_missed_run(missed: ScheduledRun) -> None:
    with pytest.raises(Usage, match="there is nothing to backfill"):
        backfill_window(missed)
    last = Run.objects.create(mode=Mode.INCREMENTAL, trigger=Trigger.SCHEDULE, requested_by=DAILY, state=State.SUCCEEDED)
    ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=at(4, 2), decision=Decision.RUN, run=last)
    assert backfill_window(missed) == Window(at(3, 22), at(6, 22)), "from the 4th to the 6th, by Kyiv's midnights"
    resolve_missed_run(missed, Decision.RUN, "olena", backfill_window(missed))
    run = fresh(missed).run
    assert (run.mode, run.window_start, run.window_end) == (Mode.INCREMENTAL, at(3, 22), at(6, 22))


# --- Downtime ---


@pytest.mark.parametrize("hours", [0.5, 7, 100])
def test_downtime_is_caught_up_with_one_run(clock: Clock, hours: float) -> None:
    scheduled_for = at(3, 2)
    clock.now = scheduled_for + timedelta(hours=hours)
    run_concurrently(2, fire_missed_schedules)
    fire_missed_schedules()
    scheduled = ScheduledRun.objects.get()
    assert scheduled.decision == Decision.CAUGHT_UP and scheduled.run and Run.objects.count() == 1
    assert scheduled.scheduled_for == next(scheduled_instants(crontab("2", "0", "UTC"), clock.now, backwards=True))
    assert scheduled.run.reason == f"caught up: scheduled for {scheduled.scheduled_for:%Y-%m-%d} 02:00 UTC"


def test_full_run_is_caught_up_first(clock: Clock) -> None:
    clock.now = at(9, 12)
    fire_missed_schedules()
    weekly, daily = Run.objects.get(requested_by=WEEKLY), Run.objects.get(requested_by=DAILY)
    assert (weekly.state, weekly.mode) == (State.QUEUED, Mode.FULL) and daily.state == State.SKIPPED


def test_run_some_minutes_late_is_not_caught_up(clock: Clock) -> None:
    clock.now = at(3, 2, 9)
    assert (scheduled := fire(DAILY)) and scheduled.decision == Decision.RUN


def test_reaper_starts_a_run_whose_message_was_lost(clock: Clock) -> None:
    """Beat has sent the message; the reaper finds that no run was started."""
    PeriodicTask.objects.filter(name=DAILY).update(last_run_at=at(3, 2))
    clock.now = at(3, 2, 1)
    tasks.reap()
    assert (scheduled := ScheduledRun.objects.get()) and scheduled.run and scheduled.decision == Decision.RUN


# --- Beat ---


class Beat:
    """django-celery-beat's own scheduler, which a test may restart; the messages it would send are executed here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.sent: list[str] = []
        monkeypatch.setattr("celery.beat.Scheduler.apply_async", lambda beat, entry, *args, **options: self.sent.append(entry.name))
        self.scheduler = django_celery_beat.schedulers.DatabaseScheduler(app=app, lazy=True)

    def restart(self) -> None:
        self.scheduler.sync()
        self.scheduler = django_celery_beat.schedulers.DatabaseScheduler(app=app, lazy=True)

    def tick(self) -> None:
        """Send and execute every entry that beat considers due."""
        for name, entry in self.scheduler.schedule.items():
            if name in (DAILY, WEEKLY) and entry.is_due().is_due:
                self.scheduler.apply_entry(self.scheduler.reserve(entry))
        for name in self.sent:
            tasks.scheduled(name)
        self.sent.clear()


def test_beat_restarted_every_minute_for_an_hour(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule of every ten minutes, from 01:30 to 02:30: six runs."""
    change_periodic_task(DAILY, crontab=CrontabSchedule.objects.create(hour="*", minute="*/10", timezone=ZoneInfo("UTC")))
    clock.now = at(3, 1, 31)
    Schedule.objects.filter(name=DAILY).update(enabled_since=clock.now)
    PeriodicTask.objects.update(last_run_at=clock.now)
    beat = Beat(monkeypatch)
    for _ in range(60):
        clock.now += timedelta(minutes=1)
        beat.restart()
        beat.tick()
        finish_runs()
    assert [f"{scheduled.scheduled_for:%H:%M}" for scheduled in ScheduledRun.objects.order_by("scheduled_for")] == [
        "01:40",
        "01:50",
        "02:00",
        "02:10",
        "02:20",
        "02:30",
    ]
    assert Run.objects.filter(trigger=Trigger.SCHEDULE).count() == 6
    assert set(ScheduledRun.objects.values_list("decision", flat=True)) == {Decision.RUN}


@pytest.mark.parametrize(("begin", "end"), [(date(2026, 3, 28), date(2026, 3, 31)), (date(2026, 10, 24), date(2026, 10, 27))])
def test_beat_over_the_days_of_the_clock_change(clock: Clock, monkeypatch: pytest.MonkeyPatch, begin: date, end: date) -> None:
    """03:30 in Kyiv, every day, beat and reaper together, beat restarted every half hour: one run for each local day."""
    change_periodic_task(DAILY, crontab=CrontabSchedule.objects.create(hour="3", minute="30", timezone=KYIV))
    clock.now = datetime(begin.year, begin.month, begin.day, 12, tzinfo=KYIV).astimezone(UTC)
    Schedule.objects.update(enabled_since=clock.now)
    PeriodicTask.objects.update(last_run_at=clock.now)
    PeriodicTask.objects.filter(name=WEEKLY).update(enabled=False)
    beat = Beat(monkeypatch)
    while clock.now.astimezone(KYIV).date() < end:
        clock.now += timedelta(minutes=30)
        beat.restart()
        beat.tick()
        fire_missed_schedules()
        finish_runs()
    days = [scheduled.scheduled_for.astimezone(KYIV).date() for scheduled in ScheduledRun.objects.order_by("scheduled_for")]
    assert days == [begin + timedelta(days=day) for day in range(1, (end - begin).days)]
    assert Run.objects.count() == len(days)
