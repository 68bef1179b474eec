"""What a report on paper says otherwise than a page: instants in full, the ledger's columns and sums by their names."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django import template
from django.utils import formats, timezone
from django.utils.translation import gettext_lazy as _

from apps.console.report import svg as drawing
from techmarket.amounts import whole

register = template.Library()
register.filter("drawn", drawing.drawn)
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
    "reconciliation lines": _("order lines"),
    "reconciliation net": _("net revenue, UAH"),
    "reconciliation paid": _("paid, UAH"),
}


@register.filter
def count_name(column: str) -> Any:
    return COUNTS[column]


@register.filter
def sum_name(check: str) -> Any:
    return SUMS.get(check, check)


@register.filter
def instant(at: datetime) -> str:
    """In the shop's time zone, with its year and seconds: it is read years later."""
    return str(formats.date_format(timezone.localtime(at), "j E Y, H:i:s"))


@register.filter
def amount(said: str) -> str:
    """What a check expected or observed, if it is a number, as the language writes it."""
    try:
        number = Decimal(said)
    except InvalidOperation:
        return said
    return str(formats.number_format(number, 2, force_grouping=True)) if "." in said else whole(int(number))
