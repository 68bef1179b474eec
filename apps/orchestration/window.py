"""Business days to instants: what `--days`, `--start-date` and `--end-date` mean."""

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from apps.orchestration.models import Mode
from techmarket.errors import Usage
from techmarket.formats import localize_time

EARLIEST = date(2015, 1, 1)  # no older order is accepted
MOST_DAYS = 3650


def today() -> date:
    return datetime.now(ZoneInfo(settings.SHOP_TIME_ZONE)).date()


def business_day(words: str) -> date:
    """YYYY-MM-DD and nothing else; date.fromisoformat alone takes 20240101 and 2024-W01-1."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", words):
        raise Usage(_("%s is not a day. Write it as 2024-01-31.") % repr(words))
    try:
        return date.fromisoformat(words)
    except ValueError:
        raise Usage(_("There is no day %s. Write a day of the calendar, as 2024-01-31.") % words) from None


def last_days(count: int) -> tuple[datetime, datetime]:
    """The last `count` business days, today being the last of them."""
    return between(today() - timedelta(days=count - 1), today())


def between(start: date, end: date) -> tuple[datetime, datetime]:
    """From the first instant of `start` to the last of `end`, in UTC: the second is the first instant that is out."""
    if end < start:
        raise Usage(_("The end, %(end)s, is before the start, %(start)s.") % {"start": start, "end": end})
    if start > today() or end > today():
        said = _("The window ends on %(end)s, in the future: today is %(today)s in %(zone)s.")
        raise Usage(said % {"end": end, "today": today(), "zone": settings.SHOP_TIME_ZONE})
    if start < EARLIEST:
        said = _("The window starts on %(start)s; the shop has no orders before %(earliest)s.")
        raise Usage(said % {"start": start, "earliest": EARLIEST})
    return midnight(start), midnight(end + timedelta(days=1))


def business_date(instant: datetime) -> date:
    return instant.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE)).date()


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(settings.SHOP_TIME_ZONE)).astimezone(UTC)


def in_words(mode: str, start: datetime | None, end: datetime | None) -> str:
    """What a run takes, by the shop's clock: business days where the window is made of such, else instants."""
    if mode == Mode.FULL:
        return _("everything")
    if start is None:
        return _("since the last load")
    if end is None:
        return _("changes since %(start)s") % {"start": localize_time(start)}
    first, last = localtime(start).date(), localtime(end - timedelta(microseconds=1)).date()
    if (midnight(first), midnight(last + timedelta(days=1))) != (start, end):
        return _("changes from %(start)s to %(end)s") % {"start": localize_time(start), "end": localize_time(end)}
    return _("changes of %(days)s") % {"days": days_in_words(first, last)}


def days_in_words(first: date, last: date) -> str:
    """Of one month, that is said once: 1–5 March 2026."""
    if first == last:
        return date_format(last, "j E Y")
    start = str(first.day) if (first.year, first.month) == (last.year, last.month) else date_format(first, "j E Y")
    return f"{start} – {date_format(last, 'j E Y')}"
