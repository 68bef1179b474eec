"""The KPIs that are one number, with their change against as many days before."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext as _

from apps.warehouse.kpis import Totals
from apps.warehouse.report import Report
from techmarket.amounts import percent, rounded_uah, uah, whole

TENTH = Decimal("0.1")


@dataclass(frozen=True)
class Number:
    """`change` is in percent, or in percentage points (`points`); None where there was nothing before."""

    name: str
    amount: str
    change: Decimal | None
    points: bool = False
    note: str = ""

    @property
    def light(self) -> str:
        return "red" if self.change and self.change < 0 else "green" if self.change else ""


def numbers(report: Report) -> Iterator[Number]:
    now, before = report.totals, report.before or Totals(Decimal(0), Decimal(0), Decimal(0), 0)
    yield Number(_("Revenue"), rounded_uah(now.net), growth(now.net, before.net))
    yield Number(_("Orders"), whole(now.orders), growth(Decimal(now.orders), Decimal(before.orders)))
    yield Number(_("Average order"), uah(now.average_order), growth(now.average_order, before.average_order))
    margin = now.margin_percent - before.margin_percent if before.net else None
    yield Number(_("Margin"), percent(now.margin_percent), margin, points=True, note=uah(now.margin))
    note = _("%(paid)s of revenue is paid") % {"paid": percent(now.paid_percent)}
    yield Number(_("Not paid yet"), rounded_uah(now.net - now.paid), None, note=note)


def growth(now: Decimal, before: Decimal) -> Decimal | None:
    return ((now - before) * 100 / before).quantize(TENTH) if before else None
