"""Numbers, amounts, instants and durations as the language of the page writes them."""

from datetime import datetime, timedelta
from decimal import Decimal

from django import template
from django.conf import settings
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()
MINUTE, HOUR, DAY = 60, 3_600, 86_400


@register.filter
def whole(count: int) -> str:
    return str(formats.number_format(count, 0, force_grouping=True))


@register.filter
def uah(amount: Decimal) -> str:
    return _("%(amount)s UAH") % {"amount": formats.number_format(amount, 2, force_grouping=True)}


@register.filter
def rounded_uah(amount: Decimal) -> str:
    """Without kopiykas, for large letters."""
    return _("%(amount)s UAH") % {"amount": formats.number_format(round(amount), 0, force_grouping=True)}


@register.filter
def percent(share: Decimal) -> str:
    return _("%(share)s %%") % {"share": formats.number_format(share, 1)}


@register.filter
def growth(change: Decimal) -> str:
    return sign(change) + percent(abs(change))


@register.filter
def points(change: Decimal) -> str:
    return sign(change) + str(formats.number_format(abs(change), 1))


def sign(change: Decimal) -> str:
    return "+" if change > 0 else "−" if change < 0 else "±"


@register.filter
def signed(change: int) -> str:
    return sign(Decimal(change)) + whole(abs(change))


@register.filter
def clock(instant: datetime, now: datetime | None = None) -> str:
    """In the shop's time zone; the day too, where it is not today's."""
    local, today = timezone.localtime(instant), timezone.localtime(now).date()
    time = formats.date_format(local, "H:i")
    if local.date() == today:
        return time
    return f"{formats.date_format(local, 'j E' if local.year == today.year else 'j E Y')}, {time}"


@register.simple_tag
def place() -> str:
    """Whose clock that is."""
    return _("Kyiv") if settings.SHOP_TIME_ZONE == "Europe/Kyiv" else settings.SHOP_TIME_ZONE


@register.filter
def lasting(span: timedelta) -> str:
    """In its two largest units: 3 h 12 min. Below a second to the hundredth."""
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
