"""Schedules: each due instant has its run exactly once, whoever is down, restarted, doubled or paused meanwhile."""

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
from tests.orchestration.harness import FakeBroker, at_once, fresh
from tests.orchestration.test_due_instants import crontab

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
DAILY, WEEKLY = "techmarket-etl-daily", "techmarket-etl-weekly-full"
KYIV = ZoneInfo("Europe/Kyiv")
START = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)  # a Monday


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """November 2026."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class Clock:
    """The time, wherever a schedule looks at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: datetime):
        self.now = now
        monkeypatch.setattr("django.utils.timezone.now", lambda: self.now)
        monkeypatch.setattr(TzAwareCrontab, "nowfunc", lambda crontab: self.now.astimezone(crontab.tz))
        monkeypatch.setattr(ModelEntry, "_default_now", lambda entry: self.now)
        monkeypatch.setattr(django_celery_beat.schedulers, "aware_now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, schedules: None) -> Clock:
    """Monday noon; the schedules were made then."""
    clock = Clock(monkeypatch, START)
    Schedule.objects.update(enabled_since=START)
    PeriodicTask.objects.update(date_changed=START)
    return clock


@pytest.fixture(autouse=True)
def workers(broker: FakeBroker) -> FakeBroker:
    return broker


def runs_end() -> None:
    Run.objects.filter(state__in=["queued", "running"]).update(state=State.SUCCEEDED)


def change(name: str, **fields: Any) -> None:
    beat = PeriodicTask.objects.get(name=name)
    for field, value in fields.items():
        setattr(beat, field, value)
    beat.save()


# --- What the migration makes ---


def test_the_two_schedules_of_the_contract(schedules: None) -> None:
    made = {task.name: task for task in PeriodicTask.objects.filter(task="techmarket.scheduled")}
    assert set(made) == {DAILY, WEEKLY} == set(Schedule.objects.values_list("name", flat=True))
    for name, (hour, day) in {DAILY: ("2", "*"), WEEKLY: ("3", "0")}.items():
        when = made[name].crontab
        assert (when.minute, when.hour, when.day_of_week, when.day_of_month, when.month_of_year) == ("0", hour, day, "*", "*")
        assert str(when.timezone) == "UTC" and made[name].enabled and made[name].args == f'["{name}"]'
        assert Schedule.objects.get(name=name).enabled_since
    assert PeriodicTask.objects.get(name="techmarket-reap").interval.every == 15


def test_what_they_ask_for(clock: Clock, broker: FakeBroker) -> None:
    clock.now = at(8, 2)
    daily = fire(DAILY)
    runs_end()
    clock.now = at(8, 3)
    weekly = fire(WEEKLY)
    assert daily and weekly and daily.run and weekly.run
    assert [(run.mode, run.trigger, run.requested_by, run.worker) for run in (daily.run, weekly.run)] == [
        (Mode.INCREMENTAL, Trigger.SCHEDULE, DAILY, ""),
        (Mode.FULL, Trigger.SCHEDULE, WEEKLY, ""),
    ]
    assert daily.run.reason == "run: scheduled for 2026-11-08 02:00 UTC" and daily.run.window_start is None
    assert broker.take() == [run.tasks.get().pk for run in (daily.run, weekly.run)]


def test_schedule_is_edited(clock: Clock) -> None:
    """An instant of the new crontab that has passed already is no surprise run."""
    clock.now = at(3, 2)
    assert fire(DAILY)
    clock.now = at(3, 12)
    when = PeriodicTask.objects.get(name=DAILY).crontab
    when.hour = "10"
    when.save()
    assert fire(DAILY) is None and not missed_runs()
    change(DAILY, crontab=CrontabSchedule.objects.create(hour="11", minute="30", timezone=ZoneInfo("UTC")))
    assert fire(DAILY) is None and not missed_runs()
    assert next_instants(DAILY, 2) == [at(4, 11, 30), at(5, 11, 30)]
    clock.now = at(4, 11, 30)
    assert (due := fire(DAILY)) and due.decision == Decision.RUN


def test_schedule_that_does_not_exist(clock: Clock) -> None:
    clock.now = at(3, 2)
    assert fire("techmarket-etl-hourly") is None and next_instants("techmarket-etl-hourly") == []
    PeriodicTask.objects.create(name="by hand", task="techmarket.scheduled", crontab=PeriodicTask.objects.get(name=DAILY).crontab)
    assert fire("by hand") is None
    with pytest.raises(Usage, match="There is no schedule 'nightly'"):
        set_enabled("nightly", enabled=False)


# --- Once ---


def test_due_instant_that_fires_twice(clock: Clock) -> None:
    clock.now = at(3, 2)
    assert fire(DAILY) and fire(DAILY) is None
    clock.now = at(3, 14)
    tasks.scheduled(DAILY)
    assert Run.objects.count() == ScheduledRun.objects.count() == 1


def test_eight_beats_at_once(clock: Clock, broker: FakeBroker) -> None:
    clock.now = at(3, 2)
    assert sum(due is not None for due in at_once(8, lambda: fire(DAILY))) == 1
    assert Run.objects.count() == ScheduledRun.objects.count() == 1
    assert len(broker.take()) == 1


def test_ten_due_instants_and_two_beats(clock: Clock) -> None:
    due = next_instants(DAILY, 10)
    for instant in due:
        clock.now = instant
        at_once(2, lambda: fire(DAILY))
        runs_end()
    assert sorted(ScheduledRun.objects.values_list("scheduled_for", flat=True)) == due
    assert Run.objects.count() == 10 and set(ScheduledRun.objects.values_list("decision", flat=True)) == {Decision.RUN}


def test_run_that_could_not_be_asked_for_is_still_due(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The due instant is decided on with its run, or not at all."""
    clock.now, ask = at(3, 2), schedules.start_run  # type: ignore[attr-defined]

    def away(*args: Any, **options: Any) -> Run:
        ask(*args, **options)
        raise ConnectionError("the power went")

    monkeypatch.setattr(schedules, "start_run", away)
    with pytest.raises(ConnectionError):
        fire(DAILY)
    assert not ScheduledRun.objects.exists() and not Run.objects.exists()
    monkeypatch.setattr(schedules, "start_run", ask)
    clock.now = at(3, 2, 1)
    assert (due := fire(DAILY)) and due.decision == Decision.RUN and due.run


def test_overlapping_schedules(clock: Clock) -> None:
    clock.now = at(8, 2)
    fire(DAILY)
    clock.now = at(8, 3)
    due = fire(WEEKLY)
    assert due and due.run and due.run.state == State.SKIPPED and due.run.overlaps == Run.objects.get(requested_by=DAILY)


# --- Pause ---


def test_paused_schedule_asks_before_it_runs(clock: Clock, broker: FakeBroker) -> None:
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
    due = ScheduledRun.objects.get()
    assert (due.schedule_id, due.scheduled_for, due.decision, due.run) == (DAILY, at(6, 2), Decision.HELD, None)
    assert not Run.objects.exists() and broker.take() == [] and list(missed_runs()) == [due]
    clock.now = at(7, 2)
    assert (later := fire(DAILY)) and later.decision == Decision.RUN, "what is due after the pause needs no word"


def test_pause_in_which_nothing_was_due(clock: Clock) -> None:
    clock.now = at(4, 12)
    set_enabled(DAILY, enabled=False)
    clock.now = at(4, 18)
    set_enabled(DAILY, enabled=True)
    fire_missed_schedules()
    assert not ScheduledRun.objects.exists()


def test_schedule_that_was_never_due_is_not_caught_up(clock: Clock) -> None:
    """Installed at noon: nobody was promised the run of two o'clock."""
    fire_missed_schedules()
    assert not ScheduledRun.objects.exists()


@pytest.fixture
def waiting(clock: Clock) -> ScheduledRun:
    """A due instant that fell into a pause."""
    Schedule.objects.filter(name=DAILY).update(paused_at=at(4, 12), enabled_since=at(6, 12))
    clock.now = at(6, 12)
    due = fire(DAILY)
    assert due and due.decision == Decision.HELD
    return due


def test_operator_runs_it_now(waiting: ScheduledRun, broker: FakeBroker) -> None:
    resolve_missed_run(waiting, Decision.RUN, "olena")
    due = fresh(waiting)
    assert (due.decision, due.decided_by) == (Decision.RUN, "olena")
    assert (due.run.state, due.run.mode, due.run.requested_by, due.run.trigger) == (
        State.QUEUED,
        Mode.INCREMENTAL,
        "olena",
        Trigger.SCHEDULE,
    )
    assert broker.take() == [due.run.tasks.get().pk] and not missed_runs()


def test_operator_skips_it(waiting: ScheduledRun) -> None:
    resolve_missed_run(waiting, Decision.SKIPPED, "olena")
    assert (fresh(waiting).decision, fresh(waiting).run) == (Decision.SKIPPED, None)
    fire_missed_schedules()
    assert not Run.objects.exists()


def test_operator_answers_once(waiting: ScheduledRun) -> None:
    def say() -> bool:
        try:
            resolve_missed_run(fresh(waiting), Decision.RUN, "olena")
        except Usage:
            return False
        return True

    assert sorted(at_once(4, say)) == [False, False, False, True]
    assert Run.objects.count() == 1
    with pytest.raises(Usage, match="has been decided already"):
        resolve_missed_run(waiting, Decision.SKIPPED, "petro")


def test_operator_fills_the_gap(waiting: ScheduledRun) -> None:
    with pytest.raises(Usage, match="there is nothing to backfill"):
        backfill_window(waiting)
    last = Run.objects.create(mode=Mode.INCREMENTAL, trigger=Trigger.SCHEDULE, requested_by=DAILY, state=State.SUCCEEDED)
    ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=at(4, 2), decision=Decision.RUN, run=last)
    assert backfill_window(waiting) == Window(at(3, 22), at(6, 22)), "from the 4th to the 6th, by Kyiv's midnights"
    resolve_missed_run(waiting, Decision.RUN, "olena", backfill_window(waiting))
    run = fresh(waiting).run
    assert (run.mode, run.window_start, run.window_end) == (Mode.INCREMENTAL, at(3, 22), at(6, 22))


# --- Everything was down ---


@pytest.mark.parametrize("hours", [0.5, 7, 100])
def test_missed_while_everything_was_down_is_caught_up_once(clock: Clock, hours: float) -> None:
    scheduled_for = at(3, 2)
    clock.now = scheduled_for + timedelta(hours=hours)
    at_once(2, fire_missed_schedules)
    fire_missed_schedules()
    due = ScheduledRun.objects.get()
    assert due.decision == Decision.CAUGHT_UP and due.run and Run.objects.count() == 1
    assert due.scheduled_for == next(scheduled_instants(crontab("2", "0", "UTC"), clock.now, backwards=True))
    assert due.run.reason == f"caught up: scheduled for {due.scheduled_for:%Y-%m-%d} 02:00 UTC"


def test_both_missed_and_the_full_one_is_caught_up(clock: Clock) -> None:
    clock.now = at(9, 12)
    fire_missed_schedules()
    weekly, daily = Run.objects.get(requested_by=WEEKLY), Run.objects.get(requested_by=DAILY)
    assert (weekly.state, weekly.mode) == (State.QUEUED, Mode.FULL) and daily.state == State.SKIPPED


def test_some_minutes_late_is_no_catching_up(clock: Clock) -> None:
    clock.now = at(3, 2, 9)
    assert (due := fire(DAILY)) and due.decision == Decision.RUN


def test_message_that_the_broker_lost_is_made_good(clock: Clock) -> None:
    """Beat believes that it has fired; the reaper's round finds that nothing came of it."""
    PeriodicTask.objects.filter(name=DAILY).update(last_run_at=at(3, 2))
    clock.now = at(3, 2, 1)
    tasks.reap()
    assert (due := ScheduledRun.objects.get()) and due.run and due.decision == Decision.RUN


# --- Beat itself ---


class Beat:
    """django-celery-beat's own scheduler, restarted at will; what it would send is carried out here, or is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.sent: list[str] = []
        monkeypatch.setattr("celery.beat.Scheduler.apply_async", lambda beat, entry, *args, **options: self.sent.append(entry.name))
        self.scheduler = django_celery_beat.schedulers.DatabaseScheduler(app=app, lazy=True)

    def restart(self) -> None:
        self.scheduler.sync()
        self.scheduler = django_celery_beat.schedulers.DatabaseScheduler(app=app, lazy=True)

    def look(self) -> None:
        """One round: everything that beat thinks is due is sent."""
        for name, entry in self.scheduler.schedule.items():
            if name in (DAILY, WEEKLY) and entry.is_due().is_due:
                self.scheduler.apply_entry(self.scheduler.reserve(entry))
        for name in self.sent:
            tasks.scheduled(name)
        self.sent.clear()


def test_beat_restarted_every_minute_for_an_hour(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule of every ten minutes, from 01:30 to 02:30: six runs."""
    change(DAILY, crontab=CrontabSchedule.objects.create(hour="*", minute="*/10", timezone=ZoneInfo("UTC")))
    clock.now = at(3, 1, 31)
    Schedule.objects.filter(name=DAILY).update(enabled_since=clock.now)
    PeriodicTask.objects.update(last_run_at=clock.now)
    beat = Beat(monkeypatch)
    for _ in range(60):
        clock.now += timedelta(minutes=1)
        beat.restart()
        beat.look()
        runs_end()
    assert [f"{due.scheduled_for:%H:%M}" for due in ScheduledRun.objects.order_by("scheduled_for")] == [
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
    change(DAILY, crontab=CrontabSchedule.objects.create(hour="3", minute="30", timezone=KYIV))
    clock.now = datetime(begin.year, begin.month, begin.day, 12, tzinfo=KYIV).astimezone(UTC)
    Schedule.objects.update(enabled_since=clock.now)
    PeriodicTask.objects.update(last_run_at=clock.now)
    PeriodicTask.objects.filter(name=WEEKLY).update(enabled=False)
    beat = Beat(monkeypatch)
    while clock.now.astimezone(KYIV).date() < end:
        clock.now += timedelta(minutes=30)
        beat.restart()
        beat.look()
        fire_missed_schedules()
        runs_end()
    days = [due.scheduled_for.astimezone(KYIV).date() for due in ScheduledRun.objects.order_by("scheduled_for")]
    assert days == [begin + timedelta(days=day) for day in range(1, (end - begin).days)]
    assert Run.objects.count() == len(days)
