"""Scheduled runs. Beat fires a schedule; the ledger decides whether that instant has had its run. Missed runs are caught up or held."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from celery.schedules import ParseException
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.signals import post_delete, post_save, pre_save
from django.dispatch import receiver
from django.utils.translation import gettext as _
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.audit.actor import Actor, acting_as
from apps.audit.chain import record
from apps.audit.models import ActorKind, Deed
from apps.orchestration import clock
from apps.orchestration.models import Decision, Mode, Run, Schedule, ScheduledRun, State, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.window import Window, shop_date
from techmarket.errors import Usage

log = structlog.get_logger()
TASK = "techmarket.scheduled"
TIMES = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year", "timezone")  # of a crontab
# The full one first: where both were missed, it loads what the other would have loaded.
MODES = {"techmarket-etl-weekly-full": Mode.FULL, "techmarket-etl-daily": Mode.INCREMENTAL}
# How far to search for an instant: longer than the interval of any of these crontabs.
HORIZON = timedelta(days=370)
# Beat may be seconds late, or a worker busy; a run that is later than this was missed.
PUNCTUAL = timedelta(minutes=10)


def fire_missed_schedules(now: datetime | None = None) -> None:
    """Start the run of every schedule's last instant, if beat did not send it or the broker lost it.

    Beat checks a schedule only within two hours of its time, starts counting anew after a pause, and treats a sent message as
    received.
    """
    for name in MODES:
        fire(name, now)


def fire(name: str, now: datetime | None = None) -> ScheduledRun | None:
    """Start the run of the schedule's last instant, unless that instant has been decided on already.

    An instant that fell into a pause is held for the operator. One that was missed during downtime is caught up once: the latest run
    also loads what earlier ones would have loaded.
    """
    now = now or clock.now()
    mend_future_instants(name, now)
    schedule, beat = Schedule.objects.filter(name=name).first(), find_periodic_task(name)
    if schedule is None or beat is None or not beat.enabled:
        return None
    scheduled_for = next(expected_instants(beat, now, backwards=True), None)
    decision = scheduled_for and decide(schedule, scheduled_for, now)
    if not scheduled_for or not decision or ScheduledRun.objects.filter(schedule=schedule, scheduled_for=scheduled_for).exists():
        return None
    try:
        with transaction.atomic(), acting_as(Actor(name, ActorKind.SCHEDULE)):  # together with its run, or not at all
            scheduled = ScheduledRun.objects.create(schedule=schedule, scheduled_for=scheduled_for, decision=decision)
            if decision != Decision.HELD:
                start_scheduled_run(scheduled, name)
    except IntegrityError:
        return None
    return scheduled


def decide(schedule: Schedule, scheduled_for: datetime, now: datetime) -> Decision | None:
    """Return None for an instant before the schedule was created or changed: no run was expected then."""
    if schedule.enabled_since and scheduled_for >= schedule.enabled_since:
        return Decision.RUN if now - scheduled_for <= PUNCTUAL else Decision.CAUGHT_UP
    return Decision.HELD if schedule.paused_at and scheduled_for >= schedule.paused_at else None


def start_scheduled_run(scheduled: ScheduledRun, requested_by: str, window: Window | None = None) -> Run:
    """Start the run and link it to its instant, also where it is skipped. With a window it is incremental, whatever the schedule's mode."""
    mode = Mode.INCREMENTAL if window else MODES[scheduled.schedule_id]
    reason = f"{scheduled.decision}: scheduled for {scheduled.scheduled_for:%Y-%m-%d %H:%M} UTC"
    scheduled.run = start_run(mode, Trigger.SCHEDULE, requested_by, window, reason=reason, queue=True)
    scheduled.save(update_fields=["run"])
    return scheduled.run


def missed_runs() -> "QuerySet[ScheduledRun]":
    """Return the runs missed while their schedule was paused, which await an operator's decision."""
    return ScheduledRun.objects.filter(decision=Decision.HELD)


def resolve_missed_run(missed: ScheduledRun, decision: Decision, by: str, window: Window | None = None) -> None:
    """Record an operator's decision on a missed run: run now, over `window` where given, or skip. Raises Usage if it is decided already."""
    with transaction.atomic():
        if not missed_runs().filter(pk=missed.pk).update(decision=decision, decided_by=by):
            raise Usage(_("%s has been decided already.") % missed)
        missed.refresh_from_db()
        record(resolution_deed(decision, window), missed, after={"start": window.start, "end": window.end} if window else {})
        if decision != Decision.SKIPPED:
            start_scheduled_run(missed, by, window)


def resolution_deed(decision: Decision, window: Window | None) -> Deed:
    if decision == Decision.SKIPPED:
        return Deed.MISSED_RUN_SKIPPED
    return Deed.MISSED_RUN_BACKFILLED if window else Deed.MISSED_RUN_STARTED


def backfill_window(missed: ScheduledRun) -> Window:
    """Return the days from the schedule's last success before `missed` until today. Raises Usage where it never succeeded."""
    earlier = ScheduledRun.objects.filter(
        schedule=missed.schedule_id, scheduled_for__lt=missed.scheduled_for, run__state=State.SUCCEEDED
    ).first()
    if earlier is None:
        text = _("No run of %(schedule)s before %(missed)s has succeeded: there is nothing to backfill. Run it now instead.")
        raise Usage(text % {"schedule": missed.schedule_id, "missed": missed})
    return Window.between(shop_date(earlier.scheduled_for), shop_date(clock.now()))


def find_periodic_task(name: str) -> PeriodicTask | None:
    return PeriodicTask.objects.select_related("crontab").filter(name=name, task=TASK, crontab__isnull=False).first()


def set_enabled(name: str, enabled: bool) -> None:
    """Pause the schedule, or resume it. Raises Usage where there is no such schedule."""
    beat = find_periodic_task(name)
    if beat is None:
        raise Usage(_("There is no schedule %(name)s. There are: %(known)s.") % {"name": repr(name), "known": ", ".join(sorted(MODES))})
    beat.enabled = enabled
    beat.save()  # never update(): see remember_pause


def next_instants(name: str, count: int = 5) -> list[datetime]:
    """Return the next instants at which the schedule starts a run, in UTC; none while it is paused."""
    beat = find_periodic_task(name)
    return list(islice(expected_instants(beat, clock.now()), count)) if beat else []


def expected_instants(beat: PeriodicTask, start: datetime, backwards: bool = False) -> Iterator[datetime]:
    """Yield the instants at which a schedule starts a run: what beat, the pages, the commands and the metrics call due.

    None while it is paused, and none where Celery cannot read its crontab.
    """
    with suppress(ValueError, ParseException):
        if beat.enabled:
            yield from scheduled_instants(beat.crontab, start, backwards)


def stopped_schedules(now: datetime) -> dict[str, bool]:
    """Return the schedules that start no runs, True for those that are paused. The others have a crontab without a time."""
    beats = {name: find_periodic_task(name) for name in MODES}
    stopped = {name: beat for name, beat in beats.items() if beat is None or next(expected_instants(beat, now), None) is None}
    return {name: beat is None or not beat.enabled for name, beat in stopped.items()}


def mend_future_instants(name: str, now: datetime) -> None:
    """Count from now what a wrong clock has dated ahead: until that time no run would be expected, or a run would count as made."""
    for field in ("enabled_since", "paused_at"):
        if Schedule.objects.filter(name=name, **{f"{field}__gt": now + clock.MAX_SKEW}).update(**{field: now}):
            log.warning("an instant of the schedule was in the future", schedule=name, field=field)
    if ScheduledRun.objects.filter(schedule=name, scheduled_for__gt=now).exclude(decision=Decision.HELD).delete()[0]:
        log.warning("a run was recorded for an instant in the future", schedule=name)


def upcoming(crontab: CrontabSchedule, count: int = 5) -> list[datetime]:
    """Return the next instants, in UTC; none where Celery cannot read the crontab, though beat's form took it: weekday 7, 31 February."""
    try:
        return list(islice(scheduled_instants(crontab, clock.now()), count))
    except (ValueError, ParseException):
        return []


def scheduled_instants(crontab: CrontabSchedule, start: datetime, backwards: bool = False) -> Iterator[datetime]:
    """Yield the instants of the crontab after `start`, or up to it going back; in UTC.

    It walks the days of the crontab's own time zone. A local time that a clock change skips comes an hour later, one that occurs twice
    comes the first time: exactly once a day either way.
    """
    zone, plan = crontab.timezone, crontab.schedule
    minutes = sorted((hour, minute) for hour in plan.hour for minute in plan.minute)
    day, step = start.astimezone(zone).date(), timedelta(days=-1 if backwards else 1)
    last = day + (HORIZON if not backwards else -HORIZON)
    while day != last:
        if day.isoweekday() % 7 in plan.day_of_week and day.day in plan.day_of_month and day.month in plan.month_of_year:
            local = (datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone) for hour, minute in minutes)
            instants = sorted({instant.astimezone(UTC) for instant in local}, reverse=backwards)
            yield from (instant for instant in instants if (instant <= start if backwards else instant > start))
        day += step


# --- Changes of a schedule, whoever makes them: what beat does not keep, and what the audit log records ---


@receiver(pre_save, sender=PeriodicTask)
def remember_pause(sender: type[PeriodicTask], instance: PeriodicTask, **kwargs: object) -> None:
    """Record when a schedule was paused, resumed or changed."""
    before = PeriodicTask.objects.filter(pk=instance.pk).first()
    if instance.task != TASK or before is None:
        return
    with transaction.atomic():
        schedule, now = Schedule.objects.filter(name=instance.name), clock.now()
        if before.enabled and not instance.enabled:
            schedule.update(enabled_since=None, paused_at=now)
        elif instance.enabled and not before.enabled:
            schedule.update(enabled_since=now)
        elif before.crontab_id != instance.crontab_id:
            record_change(schedule)
        audit_schedule(before, instance)


def audit_schedule(before: PeriodicTask, after: PeriodicTask) -> None:
    if before.enabled != after.enabled:
        record(Deed.SCHEDULE_RESUMED if after.enabled else Deed.SCHEDULE_PAUSED, after)
    if before.crontab_id != after.crontab_id:
        record(Deed.SCHEDULE_CHANGED, after, {"crontab": str(before.crontab)}, {"crontab": str(after.crontab)})


@receiver(post_save, sender=PeriodicTask)
def audit_new_schedule(instance: PeriodicTask, created: bool, **kwargs: object) -> None:
    if created:
        record(Deed.SCHEDULE_ADDED, instance, after={"task": instance.task, "crontab": str(instance.crontab)})


@receiver(post_delete, sender=PeriodicTask)
def audit_deleted_schedule(instance: PeriodicTask, **kwargs: object) -> None:
    record(Deed.SCHEDULE_DELETED, instance, before={"task": instance.task})


@receiver(pre_save, sender=CrontabSchedule)
def audit_changed_crontab(instance: CrontabSchedule, **kwargs: object) -> None:
    before = CrontabSchedule.objects.filter(pk=instance.pk).first()
    changed = [name for name in TIMES if before and getattr(before, name) != getattr(instance, name)]
    if changed:
        was, now = ({name: str(getattr(row, name)) for name in changed} for row in (before, instance))
        record(Deed.CRONTAB_CHANGED, instance, was, now)


@receiver(post_save, sender=CrontabSchedule)
def remember_change(sender: type[CrontabSchedule], instance: CrontabSchedule, created: bool, **kwargs: object) -> None:
    if created:
        record(Deed.CRONTAB_ADDED, instance, after={name: str(getattr(instance, name)) for name in TIMES})
    record_change(
        Schedule.objects.filter(name__in=list(PeriodicTask.objects.filter(task=TASK, crontab=instance).values_list("name", flat=True)))
    )


@receiver(post_delete, sender=CrontabSchedule)
def audit_deleted_crontab(instance: CrontabSchedule, **kwargs: object) -> None:
    record(Deed.CRONTAB_DELETED, instance, before={name: str(getattr(instance, name)) for name in TIMES})


def record_change(schedules: "QuerySet[Schedule]") -> None:
    """Count instants from now on: those of the new crontab that have passed already are not missed."""
    schedules.exclude(enabled_since=None).update(enabled_since=clock.now(), paused_at=None)
