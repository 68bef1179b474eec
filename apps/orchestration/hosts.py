"""The clocks of the hosts that take part: each process measures its own from time to time, and stores by how much it is off."""

import socket
import time
from datetime import timedelta

import structlog
from django.db import Error
from django.db.models import FloatField, QuerySet
from django.db.models.functions import Abs, Now

from apps.orchestration import clock
from apps.orchestration.models import HostClock, Role
from techmarket.errors import EtlError

log = structlog.get_logger()
MEASURE_INTERVAL_S = 60.0  # of one process
# A process that has not measured for so long has ended; its clock concerns nobody. A local run measures as long as it lasts.
CURRENT = timedelta(minutes=30)
DELETE_AFTER = timedelta(days=7)
MEASURED: dict[Role, float] = {}  # when this process last measured, by time.monotonic()


def measure_clock(role: Role) -> None:
    """Store how far this host's clock is off, at most once a minute. A database that does not answer is reported by others."""
    last = MEASURED.get(role)
    if last is not None and time.monotonic() - last < MEASURE_INTERVAL_S:
        return
    MEASURED[role] = time.monotonic()
    try:
        store_clock(role, clock.own_skew(), is_first=last is None)
    except (EtlError, Error) as error:
        log.info("the clock could not be compared", cause=str(error))


def store_clock(role: Role, ahead: timedelta, is_first: bool) -> None:
    row = HostClock(host=socket.gethostname()[:255], role=role, ahead_seconds=ahead.total_seconds(), measured_at=Now(), started_at=Now())
    changed = ["ahead_seconds", "measured_at", *["started_at"] * is_first]
    HostClock.objects.bulk_create([row], update_conflicts=True, unique_fields=["host", "role"], update_fields=changed)
    if abs(ahead) > clock.MAX_SKEW:
        log.warning("this host's clock is off: set it by NTP", role=str(role), ahead_seconds=round(ahead.total_seconds(), 1))


def current_clocks() -> "QuerySet[HostClock]":
    """Return the clocks that were measured lately."""
    return HostClock.objects.filter(measured_at__range=(Now() - CURRENT, Now() + clock.MAX_SKEW)).order_by("host", "role")


def wrong_clocks() -> "QuerySet[HostClock]":
    """Return the clocks that are off by more than NTP and a slow answer explain."""
    apart = Abs("ahead_seconds", output_field=FloatField())
    return current_clocks().annotate(apart=apart).filter(apart__gt=clock.MAX_SKEW.total_seconds())


def delete_old_clocks() -> None:
    """Delete the clocks of hosts that are gone: every pod has a name of its own."""
    HostClock.objects.filter(measured_at__lt=Now() - DELETE_AFTER).delete()
