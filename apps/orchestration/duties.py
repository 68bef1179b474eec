"""The duties that beat has the workers do. Pages, `ping` and the metrics ask here whether they were done: that a message was sent proves
nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask

from apps.orchestration import clock
from apps.orchestration.models import Duty, DutyName, Executor, HostClock, Role, State, Task
from apps.orchestration.worker.recovery import is_stalled

# How long a duty may be left undone while beat sends its message. Reaping is due every ETL_REAP_SECONDS, forgetting once a day.
LIMITS = {
    DutyName.REAP: timedelta(minutes=10),
    DutyName.SCHEDULES: timedelta(minutes=10),
    DutyName.FORGET: timedelta(hours=26),
}
# Beat gives a sign every minute, and writes every three minutes what it has sent.
BEAT_MAX_SILENCE = timedelta(minutes=5)


@dataclass(frozen=True)
class DutyState:
    """`done_at`: by the control database's clock, None if never. `overdue`: beat sends the duty's message, and no worker does it."""

    name: DutyName
    done_at: datetime | None
    overdue: bool


def record_done(name: DutyName) -> None:
    Duty.objects.bulk_create([Duty(name=name, done_at=Now())], update_conflicts=True, unique_fields=["name"], update_fields=["done_at"])


def read_duties(now: datetime) -> list[DutyState]:
    """Return every duty. None is overdue where beat is silent: then beat is what is to be mended, or this installation needs neither."""
    # An instant in the future was written before the control database's clock was set back: when the duty was done is not known.
    done = dict(Duty.objects.filter(done_at__lte=now + clock.MAX_SKEW).values_list("name", "done_at"))
    since = find_beat_start(now)
    late = [name for name, limit in LIMITS.items() if since and now - max(done.get(name) or since, since) > limit]
    if late and are_workers_busy():
        late = [name for name in late if name == DutyName.FORGET]
    return [DutyState(name, done.get(name), name in late) for name in LIMITS]


def is_overdue(name: DutyName, now: datetime) -> bool:
    return any(duty.overdue for duty in read_duties(now) if duty.name == name)


def are_workers_busy() -> bool:
    """Return True while a worker is alive with a task, and none is dead: the message waits until the task ends, and nothing is missed."""
    running = Task.objects.filter(state=State.RUNNING, run__executor=Executor.WORKERS)
    return running.exists() and not running.filter(is_stalled()).exists()


def find_beat_start(now: datetime) -> datetime | None:
    """Return since when beat has been sending, None where it is silent."""
    lately = (now - BEAT_MAX_SILENCE, now + clock.MAX_SKEW)
    beat = HostClock.objects.filter(role=Role.BEAT, measured_at__range=lately).order_by("started_at").first()
    if beat is None:
        return None
    # Dated ahead, it started before the control database's clock was set back: longer ago than any limit, for all that is known.
    return beat.started_at if beat.started_at <= lately[1] else now - timedelta(days=2)


def read_beat_sign(now: datetime, *others: datetime | None) -> datetime | None:
    """Return when beat last gave a sign, by the control database's clock: it measured its own, sent a message, or gave one of `others`.

    One in the future counts only where there is no other: a wrong clock has dated it, and beat mends it once its schedule is near.
    """
    beat = HostClock.objects.filter(role=Role.BEAT).order_by("-measured_at").first()
    ahead = timedelta(seconds=beat.ahead_seconds if beat else 0)
    sent = PeriodicTask.objects.exclude(last_run_at=None).values_list("last_run_at", flat=True)  # by the clock of beat's host
    signs = [sign for sign in (beat and beat.measured_at, *(instant - ahead for instant in sent), *others) if sign]
    return max([sign for sign in signs if sign <= now + clock.MAX_SKEW] or signs, default=None)
