"""The KPIs that are one number, with their change against the period before."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.console.overview.figures import Period
from apps.warehouse.kpis import Side, Totals
from apps.warehouse.report import Report
from techmarket.formats import localize_count, localize_percent, localize_rounded_uah, localize_uah

TENTH = Decimal("0.1")


@dataclass(frozen=True)
class Number:
    """`change` is in percent, or in percentage points (`points`); None where the period before had no sales.

    `href`: the address of the orders that the number is the sum of.
    """

    name: str
    amount: str
    change: Decimal | None
    points: bool = False
    note: str = ""
    href: str = ""

    @property
    def light(self) -> str:
        return "red" if self.change and self.change < 0 else "green" if self.change else ""


def list_numbers(report: Report, period: Period) -> Iterator[Number]:
    now, before = report.totals, report.before or Totals(Decimal(0), Decimal(0), Decimal(0), 0)
    yield Number(_("Revenue"), localize_rounded_uah(now.net), percent_change(now.net, before.net))
    yield Number(_("Orders"), localize_count(now.orders), percent_change(Decimal(now.orders), Decimal(before.orders)))
    yield Number(_("Average order"), localize_uah(now.average_order), percent_change(now.average_order, before.average_order))
    margin = now.margin_percent - before.margin_percent if before.net else None
    uncosted = [_("cost unknown for %(net)s of revenue") % {"net": localize_uah(now.uncosted)}] if now.uncosted else []
    note = ", ".join([localize_uah(now.margin), *uncosted])
    yield Number(_("Margin"), localize_percent(now.margin_percent), margin, points=True, note=note)
    yield from list_balances(report, period)


def list_balances(report: Report, period: Period) -> Iterator[Number]:
    """Yield what is outstanding and what is overpaid, each with its orders: the one must not hide the other."""
    balances = report.balances
    note = ", ".join(
        [count_orders(balances.outstanding_orders), _("%(paid)s of revenue paid") % {"paid": localize_percent(report.paid_percent)}]
    )
    outstanding, overpaid = (period.balances(side) for side in (Side.OUTSTANDING, Side.OVERPAID))
    yield Number(_("Outstanding"), localize_rounded_uah(balances.outstanding), None, note=note, href=outstanding)
    note = count_orders(balances.overpaid_orders)
    yield Number(_("Overpaid"), localize_rounded_uah(balances.overpaid), None, note=note, href=overpaid)


def count_orders(orders: int) -> str:
    return ngettext("%(orders)s order", "%(orders)s orders", orders) % {"orders": localize_count(orders)}


def percent_change(now: Decimal, before: Decimal) -> Decimal | None:
    return ((now - before) * 100 / before).quantize(TENTH) if before else None
