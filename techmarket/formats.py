"""Formats counts, amounts, instants and durations: in the language of the page, as a template library, or plainly for a terminal."""

from datetime import datetime, timedelta
from decimal import Decimal

from django import template
from django.conf import settings
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()
MINUTE, HOUR, DAY = 60, 3_600, 86_400  # seconds


# --- Pages: in the active language ---


@register.filter
def localize_count(count: int) -> str:
    return str(formats.number_format(count, 0, force_grouping=True))


@register.filter
def localize_uah(amount: Decimal) -> str:
    return _("%(amount)s UAH") % {"amount": formats.number_format(amount, 2, force_grouping=True)}


def localize_rounded_uah(amount: Decimal) -> str:
    """Return the amount without kopiykas, for large type."""
    return _("%(amount)s UAH") % {"amount": formats.number_format(round(amount), 0, force_grouping=True)}


def localize_percent(share: Decimal) -> str:
    return _("%(share)s %%") % {"share": formats.number_format(share, 1)}


@register.filter
def localize_growth(change: Decimal) -> str:
    """Return a signed percentage: +3.1 %."""
    return sign_of(change) + localize_percent(abs(change))


@register.filter
def localize_points(change: Decimal) -> str:
    """Return a signed number of percentage points, without the unit: −0.4."""
    return sign_of(change) + str(formats.number_format(abs(change), 1))


def localize_change(change: int) -> str:
    """Return a signed count: +1,204."""
    return sign_of(Decimal(change)) + localize_count(abs(change))


def sign_of(change: Decimal) -> str:
    return "+" if change > 0 else "−" if change < 0 else "±"


@register.filter
def localize_time(instant: datetime, now: datetime | None = None) -> str:
    """Return the time of day in the shop's time zone, with the date unless it is today's."""
    local, today = timezone.localtime(instant), timezone.localtime(now).date()
    time = formats.date_format(local, "H:i")
    if local.date() == today:
        return time
    return f"{formats.date_format(local, 'j E' if local.year == today.year else 'j E Y')}, {time}"


@register.simple_tag
def shop_time_zone() -> str:
    """Return the name of the time zone in which `localize_time` gives the time."""
    return _("Kyiv") if settings.SHOP_TIME_ZONE == "Europe/Kyiv" else settings.SHOP_TIME_ZONE


@register.filter
def localize_duration(span: timedelta) -> str:
    """Return the duration in its two largest units, such as 3 h 12 min; below a second, with two decimals."""
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // DAY, seconds % DAY // HOUR, seconds % HOUR // MINUTE
    if days:
        return ngettext("%(count)d day", "%(count)d days", days) % {"count": days} + (" " + _("%d h") % hours if hours else "")
    if hours:
        return _("%d h") % hours + " " + _("%d min") % minutes
    if minutes:
        return _("%d min") % minutes + " " + _("%d s") % (seconds % MINUTE)
    digits = 1 if seconds else 2
    return _("%s s") % formats.number_format(Decimal(str(round(span.total_seconds(), digits))), digits)


# --- Terminal: the same in every language ---


def format_count(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def format_uah(amount: Decimal, sign: str = "") -> str:
    """Return the amount without a unit; with `sign` "+", positive amounts get a plus."""
    return f"{amount:{sign},.2f}".replace(",", " ")


def shorten(text: str, length: int, end: str = "…") -> str:
    """Return the text, of a longer one the first `length` characters and `end`."""
    return text if len(text) <= length else text[:length] + end
