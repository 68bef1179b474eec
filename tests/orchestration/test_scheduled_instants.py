"""Instants of a crontab: exactly one on every local day, through every clock change. Needs no database."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from django_celery_beat.models import CrontabSchedule

from apps.orchestration.schedules import scheduled_instants

KYIV = ZoneInfo("Europe/Kyiv")
START = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)  # a Monday


def crontab(hour: str, minute: str, zone: str = "Europe/Kyiv", **more: str) -> CrontabSchedule:
    return CrontabSchedule(hour=hour, minute=minute, timezone=ZoneInfo(zone), **more)


def take_between(instants: Iterator[datetime], start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda instant: start <= instant < end, instants))


@pytest.mark.parametrize("hour", ["0", "2", "3", "4", "23"])
@pytest.mark.parametrize("zone", ["Europe/Kyiv", "UTC", "America/New_York", "Australia/Lord_Howe"])
def test_one_instant_on_every_local_day_of_a_year(hour: str, zone: str) -> None:
    """2026-03-29 has no 03:30 in Kyiv, 2026-10-25 has it twice."""
    when, local = crontab(hour, "30", zone), ZoneInfo(zone)
    start, end = datetime(2026, 1, 1, tzinfo=local).astimezone(UTC), datetime(2027, 1, 1, tzinfo=local).astimezone(UTC)
    forwards = take_between(scheduled_instants(when, start - timedelta(microseconds=1)), start, end)
    assert forwards == sorted(forwards) and len(forwards) == 365
    assert Counter(instant.astimezone(local).date() for instant in forwards) == Counter(
        date(2026, 1, 1) + timedelta(days=day) for day in range(365)
    )
    backwards = take_between(scheduled_instants(when, end - timedelta(microseconds=1), backwards=True), start, end)
    assert backwards == forwards[::-1]


def test_0330_on_the_days_of_the_clock_change() -> None:
    when = crontab("3", "30")
    spring = next(scheduled_instants(when, datetime(2026, 3, 28, 22, 0, tzinfo=UTC)))
    assert spring == datetime(2026, 3, 29, 1, 30, tzinfo=UTC) and spring.astimezone(KYIV).hour == 4
    autumn = list(takewhile(lambda instant: instant.day < 26, scheduled_instants(when, datetime(2026, 10, 24, 22, 0, tzinfo=UTC))))
    assert autumn == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]


def test_start_is_excluded_forwards_and_included_backwards() -> None:
    when, instant = crontab("2", "0", "UTC"), datetime(2026, 5, 5, 2, 0, tzinfo=UTC)
    assert next(scheduled_instants(when, instant)) == instant + timedelta(days=1), "after the start"
    assert next(scheduled_instants(when, instant, backwards=True)) == instant, "up to the start"
    assert next(scheduled_instants(when, instant - timedelta(microseconds=1), backwards=True)) == instant - timedelta(days=1)


def test_crontab_selects_days() -> None:
    sunday = crontab("3", "0", "UTC", day_of_week="0")
    found = take_between(scheduled_instants(sunday, START), START, START + timedelta(days=28))
    assert [instant.day for instant in found] == [8, 15, 22, 29] and {instant.isoweekday() for instant in found} == {7}
    leap = crontab("0", "0", "UTC", day_of_month="29", month_of_year="2")
    assert list(scheduled_instants(leap, START)) == [], "beyond the horizon"
    often = crontab("*/12", "0,30", "UTC")
    assert [f"{instant:%d %H:%M}" for instant, _ in zip(scheduled_instants(often, START), range(4), strict=False)] == [
        "02 12:30",
        "03 00:00",
        "03 00:30",
        "03 12:00",
    ]
