"""Beat says that a schedule is due; the ledger says whether that due instant has had its run."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from celery.schedules import ParseException
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.orchestration.models import Decision, Due, Mode, Run, Schedule, State, Trigger
from apps.orchestration.requests import ask
from apps.orchestration.window import between, business_date
from techmarket.errors import Usage

TASK = "techmarket.scheduled"
# The full one first: where both were missed, it brings what the other would have brought.
MODES = {"techmarket-etl-weekly-full": Mode.FULL, "techmarket-etl-daily": Mode.INCREMENTAL}
# How far back a due instant is looked for: further than any crontab of ours reaches.
HORIZON = timedelta(days=370)
# Beat may be some seconds late, or a worker busy; what is later than this was missed.
PUNCTUAL = timedelta(minutes=10)
ANYTIME = (None, None)
Span = tuple[datetime | None, datetime | None]


def keep_promises(now: datetime | None = None) -> None:
    """Every schedule's last due instant, if beat or the broker forgot it.

    Beat looks at a schedule only within two hours of its time, starts counting anew after a pause, and believes that a message sent
    is a message received.
    """
    for name in MODES:
        fire(name, now)


def fire(name: str, now: datetime | None = None) -> Due | None:
    """The run of the schedule's last due instant, unless that instant has been decided on already.

    A due instant that fell into a pause is held for the operator. One that was missed while everything was down is caught up once: what
    an earlier instant would have brought, the latest brings too.
    """
    now = now or timezone.now()
    schedule, beat = Schedule.objects.filter(name=name).first(), beat_of(name)
    if schedule is None or beat is None or not beat.enabled:
        return None
    due_at = next(due_instants(beat.crontab, now, backwards=True), None)
    decided = due_at and decision(schedule, due_at, now)
    if not due_at or not decided or Due.objects.filter(schedule=schedule, due_at=due_at).exists():
        return None
    try:
        with transaction.atomic():  # with its run, or not at all
            due = Due.objects.create(schedule=schedule, due_at=due_at, decision=decided)
            if decided != Decision.HELD:
                start(due, name)
    except IntegrityError:
        return None
    return due


def decision(schedule: Schedule, due_at: datetime, now: datetime) -> Decision | None:
    """None for an instant before the schedule was made or changed: nobody was promised a run."""
    if schedule.enabled_since and due_at >= schedule.enabled_since:
        return Decision.RUN if now - due_at <= PUNCTUAL else Decision.CAUGHT_UP
    return Decision.HELD if schedule.paused_at and due_at >= schedule.paused_at else None


def start(due: Due, asked_by: str, span: Span = ANYTIME) -> Run:
    """The run for this due instant, linked to it; also where it is skipped for another."""
    mode = MODES[due.schedule_id] if span == ANYTIME else Mode.INCREMENTAL
    why = f"{due.decision}: due {due.due_at:%Y-%m-%d %H:%M} UTC"
    due.run = ask(mode, Trigger.SCHEDULE, asked_by, *span, reason=why, queue=True)
    due.save(update_fields=["run"])
    return due.run


def held() -> "QuerySet[Due]":
    return Due.objects.filter(decision=Decision.HELD)


def answer(due: Due, decided: Decision, by: str, span: Span = ANYTIME) -> None:
    """The operator's word on a due instant that was held: run now, over `span` where given, or skip.

    Raises Usage where somebody has answered before.
    """
    with transaction.atomic():
        if not held().filter(pk=due.pk).update(decision=decided, decided_by=by):
            raise Usage(f"{due} has been decided on already.")
        due.refresh_from_db()
        if decided != Decision.SKIPPED:
            start(due, by, span)


def gap(due: Due) -> tuple[datetime, datetime]:
    """The business days from the schedule's last run that succeeded before `due` until today. Raises Usage where there is none."""
    before = Due.objects.filter(schedule=due.schedule_id, due_at__lt=due.due_at, run__state=State.SUCCEEDED).first()
    if before is None:
        raise Usage(f"No run of {due.schedule_id} before {due} has succeeded: there is no gap to fill. Run it now instead.")
    return between(business_date(before.due_at), business_date(timezone.now()))


def beat_of(name: str) -> PeriodicTask | None:
    return PeriodicTask.objects.select_related("crontab").filter(name=name, task=TASK, crontab__isnull=False).first()


def pause(name: str, enabled: bool = False) -> None:
    """Pause the schedule, or resume it. Raises Usage where there is no such schedule."""
    beat = beat_of(name)
    if beat is None:
        raise Usage(f"There is no schedule {name!r}. There are: {', '.join(sorted(MODES))}.")
    beat.enabled = enabled
    beat.save()  # never update(): see remember_pause


def next_due(name: str, count: int = 5) -> list[datetime]:
    """The next instants, in UTC."""
    beat = beat_of(name)
    return upcoming(beat.crontab, count) if beat else []


def upcoming(crontab: CrontabSchedule, count: int = 5) -> list[datetime]:
    """The next instants, in UTC; none where Celery cannot read the crontab, though beat's form took it: weekday 7, 31 February."""
    try:
        return list(islice(due_instants(crontab, timezone.now()), count))
    except (ValueError, ParseException):
        return []


def due_instants(crontab: CrontabSchedule, start: datetime, backwards: bool = False) -> Iterator[datetime]:
    """Instants of the crontab after `start`, or up to it going back; in UTC.

    Walks the days of the crontab's own time zone. A local time that a clock change skips is due an hour later, one that comes twice is due
    the first time: exactly once a day either way.
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


@receiver(pre_save, sender=PeriodicTask)
def remember_pause(sender: type[PeriodicTask], instance: PeriodicTask, **kwargs: object) -> None:
    """Beat itself forgets when a schedule was paused or changed."""
    before = PeriodicTask.objects.filter(pk=instance.pk).first()
    if instance.task != TASK or before is None:
        return
    schedule, now = Schedule.objects.filter(name=instance.name), timezone.now()
    if before.enabled and not instance.enabled:
        schedule.update(enabled_since=None, paused_at=now)
    elif instance.enabled and not before.enabled:
        schedule.update(enabled_since=now)
    elif before.crontab_id != instance.crontab_id:
        changed(schedule)


@receiver(post_save, sender=CrontabSchedule)
def remember_change(sender: type[CrontabSchedule], instance: CrontabSchedule, **kwargs: object) -> None:
    changed(Schedule.objects.filter(name__in=list(PeriodicTask.objects.filter(task=TASK, crontab=instance).values_list("name", flat=True))))


def changed(schedules: "QuerySet[Schedule]") -> None:
    """An instant of the new crontab that has passed already is not due."""
    schedules.exclude(enabled_since=None).update(enabled_since=timezone.now(), paused_at=None)
