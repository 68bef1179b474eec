"""What a run takes: the days of `--days`, `--start-date` and `--end-date` as instants, validated in one place."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from apps.orchestration import clock
from apps.orchestration.models import Mode
from techmarket.errors import Usage
from techmarket.formats import localize_time

EARLIEST = date(2015, 1, 1)  # no older order is accepted
MAX_DAYS = 3650


@dataclass(frozen=True)
class Window:
    """Changes from `start` (included) to `end` (excluded), in UTC.

    Without `start` an incremental run goes from the high-water mark and a full run takes everything; without `end`, to the sources' clock.
    """

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def everything(cls) -> Self:
        return cls()

    @classmethod
    def last_days(cls, count: int) -> Self:
        """Return the last `count` days of the shop's calendar, today being the last. Raises Usage outside 1 to MAX_DAYS."""
        if not 1 <= count <= MAX_DAYS:
            raise Usage(_("%(count)s is not a number of days from 1 to %(max)s.") % {"count": count, "max": MAX_DAYS})
        last = today()
        return cls.between(last - timedelta(days=count - 1), last)

    @classmethod
    def between(cls, first: date, last: date) -> Self:
        """Return the days from `first` to `last`, both included. Raises Usage for days in the wrong order, too early or in the future."""
        if last < first:
            raise Usage(_("The end, %(end)s, is before the start, %(start)s.") % {"start": first, "end": last})
        if first < EARLIEST:
            text = _("The window starts on %(start)s; the shop has no orders before %(earliest)s.")
            raise Usage(text % {"start": first, "earliest": EARLIEST})
        if last > (day := today()):
            text = _("The window ends on %(end)s, in the future: today is %(today)s in %(zone)s.")
            raise Usage(text % {"end": last, "today": day, "zone": settings.SHOP_TIME_ZONE})
        return cls(midnight(first), midnight(last + timedelta(days=1)))

    @classmethod
    def from_options(cls, days: int | None = None, first: date | None = None, last: date | None = None) -> Self:
        """Return the window of a command's, a program's or a form's options. Raises Usage for a combination without a meaning."""
        if days is not None and (first or last):
            raise Usage(_("Give either a number of days or a start and an end date, not both."))
        if days is not None:
            return cls.last_days(days)
        if bool(first) != bool(last):
            raise Usage(_("Give both a start and an end date; they may be the same day."))
        return cls.between(first, last) if first and last else cls.everything()

    @property
    def is_everything(self) -> bool:
        return self.start is None and self.end is None

    def check_mode(self, mode: str) -> None:
        """Raise Usage where the mode and the window contradict each other."""
        if mode == Mode.FULL and not self.is_everything:
            raise Usage(_("A full run takes everything. Give days or dates only with an incremental run."))
        if self.end and not self.start:
            raise Usage(_("Give both a start and an end date; they may be the same day."))


def today() -> date:
    """Return the day of the shop's calendar that it is now, by the control database's clock."""
    return shop_date(clock.now())


def shop_date(instant: datetime) -> date:
    return instant.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE)).date()


def parse_day(text: str) -> date:
    """Return the day written as YYYY-MM-DD; date.fromisoformat alone takes 20240101 and 2024-W01-1. Raises Usage."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise Usage(_("%s is not a day. Write it as 2024-01-31.") % repr(text))
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Usage(_("There is no day %s. Write a day of the calendar, as 2024-01-31.") % text) from None


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(settings.SHOP_TIME_ZONE)).astimezone(UTC)


def describe_window(mode: str, start: datetime | None, end: datetime | None) -> str:
    """Return what a run takes, by the shop's clock: whole days where the window consists of them, else instants."""
    if mode == Mode.FULL:
        return _("everything")
    if start is None:
        return _("since the last load")
    if end is None:
        return _("changes since %(start)s") % {"start": localize_time(start)}
    first, last = localtime(start).date(), localtime(end - timedelta(microseconds=1)).date()
    if (midnight(first), midnight(last + timedelta(days=1))) != (start, end):
        return _("changes from %(start)s to %(end)s") % {"start": localize_time(start), "end": localize_time(end)}
    return _("changes of %(days)s") % {"days": describe_days(first, last)}


def describe_days(first: date, last: date) -> str:
    """Return the days in words, a shared month once: 1 – 5 March 2026."""
    if first == last:
        return date_format(last, "j E Y")
    start = str(first.day) if (first.year, first.month) == (last.year, last.month) else date_format(first, "j E Y")
    return f"{start} – {date_format(last, 'j E Y')}"
