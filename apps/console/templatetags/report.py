"""Filters of the report: instants in full, and names of the ledger's columns and sums."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django import template
from django.utils import formats, timezone
from django.utils.translation import gettext_lazy as _

from apps.console.report import svg
from techmarket.formats import localize_count

register = template.Library()
register.filter("draw_chart", svg.draw_chart)
COUNTS = {
    "read": _("read"),
    "loaded": _("loaded"),
    "inserted": _("inserted"),
    "updated": _("updated"),
    "unchanged": _("unchanged"),
    "deleted": _("deleted"),
    "derived": _("derived"),
    "filtered": _("filtered"),
    "rejected": _("rejected"),
}
SUMS = {
    "check.reconciliation_lines": _("order lines"),
    "check.reconciliation_net": _("net revenue, UAH"),
    "check.reconciliation_paid": _("paid, UAH"),
}


@register.filter
def count_name(column: str) -> Any:
    return COUNTS[column]


@register.filter
def sum_name(check: Any) -> Any:
    return SUMS.get(getattr(check, "code", ""), check)


@register.filter
def instant(at: datetime) -> str:
    """Return the instant in the shop's time zone, with year and seconds, because a report is read years later."""
    return str(formats.date_format(timezone.localtime(at), "j E Y, H:i:s"))


@register.filter
def amount(text: str) -> str:
    """Return a number that a check expected or observed in the active language, other text as it is."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite():
        return text
    return str(formats.number_format(number, 2, force_grouping=True)) if "." in text else localize_count(int(number))
