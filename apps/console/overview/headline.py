"""The KPIs that are one number, with their change against the previous period of the same length."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext as _

from apps.warehouse.kpis import Totals
from apps.warehouse.report import Report
from techmarket.formats import localize_count, localize_percent, localize_rounded_uah, localize_uah

TENTH = Decimal("0.1")


@dataclass(frozen=True)
class Number:
    """`change` is in percent, or in percentage points (`points`); None where the previous period had no sales."""

    name: str
    amount: str
    change: Decimal | None
    points: bool = False
    note: str = ""

    @property
    def light(self) -> str:
        return "red" if self.change and self.change < 0 else "green" if self.change else ""


def list_numbers(report: Report) -> Iterator[Number]:
    now, before = report.totals, report.before or Totals(Decimal(0), Decimal(0), Decimal(0), 0)
    yield Number(_("Revenue"), localize_rounded_uah(now.net), percent_change(now.net, before.net))
    yield Number(_("Orders"), localize_count(now.orders), percent_change(Decimal(now.orders), Decimal(before.orders)))
    yield Number(_("Average order"), localize_uah(now.average_order), percent_change(now.average_order, before.average_order))
    margin = now.margin_percent - before.margin_percent if before.net else None
    yield Number(_("Margin"), localize_percent(now.margin_percent), margin, points=True, note=localize_uah(now.margin))
    note = _("%(paid)s of revenue paid") % {"paid": localize_percent(now.paid_percent)}
    yield Number(_("Outstanding"), localize_rounded_uah(now.net - now.paid), None, note=note)


def percent_change(now: Decimal, before: Decimal) -> Decimal | None:
    return ((now - before) * 100 / before).quantize(TENTH) if before else None
