"""The five lists of orders that their payments do not fit, as they were when the sources were last compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import Count, F, Max, Min, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from apps.console.export import ExportAdmin, spell_instant
from apps.orchestration.models import MAX_MISMATCHES, DayProof, Mismatch, PaymentMismatch

AMOUNTS = ("net", "captured", "refunded")


@dataclass(frozen=True)
class MismatchList:
    """One of the lists: its name, the number of its orders, and their sums in UAH.

    `outstanding`, `overpaid`: of the orders that were paid less, and more, than was sold. They are never set off against each other.
    """

    kind: Mismatch
    orders: int
    net: Decimal
    captured: Decimal
    refunded: Decimal
    outstanding: Decimal
    overpaid: Decimal

    @property
    def is_full(self) -> bool:
        """Whether there may be more orders than are stored."""
        return self.orders >= MAX_MISMATCHES


def sum_lists() -> Iterator[MismatchList]:
    paid = F("captured") - F("refunded")
    sides = {
        "outstanding": Sum(F("net") - paid, filter=Q(net__gt=paid), default=Decimal(0)),
        "overpaid": Sum(paid - F("net"), filter=Q(net__lt=paid), default=Decimal(0)),
    }
    rows = PaymentMismatch.objects.order_by().values_list("kind").annotate(Count("pk"), *(Sum(name) for name in AMOUNTS), **sides)
    found = {kind: (orders, *(round(Decimal(amount), 2) for amount in amounts)) for kind, orders, *amounts in rows}
    for kind in Mismatch:
        yield MismatchList(kind, *found.get(kind, (0, *[Decimal(0)] * 5)))


@admin.register(PaymentMismatch)
class PaymentMismatchAdmin(ExportAdmin):
    list_display = ("order_id", "kind", "day", *AMOUNTS, "difference_amount", "rows")
    list_filter = ("kind",)
    search_fields = ("=order_id",)
    search_help_text = _("Order id")
    date_hierarchy = "day"
    list_before_template = "console/payments/lists.html"
    fields = ("order_id", "kind", "day", *AMOUNTS, "difference_amount", "checked_at", "rows")
    readonly_fields = ("difference_amount", "rows")
    empty_text = _("Orders appear here when they are compared with their payments: after each scheduled run, or by `manage.py reconcile`.")
    export_name = "payment_mismatches"
    export_header = ("list", "order_id", "day", *AMOUNTS, "difference", "checked_at")

    def export_cells(self, row: PaymentMismatch) -> Sequence[object]:
        amounts = (row.net, row.captured, row.refunded)
        difference = row.difference if all(isinstance(amount, Decimal) for amount in amounts) else None
        return row.kind, row.order_id, row.day, *amounts, difference, spell_instant(row.checked_at)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        lists = list(sum_lists())
        compared = DayProof.objects.aggregate(first=Min("checked_at"), last=Max("checked_at"))
        context = {"lists": lists, "is_cut": any(each.is_full for each in lists), "compared": compared}
        response: HttpResponse = super().changelist_view(request, (extra_context or {}) | context)
        return response

    @admin.display(description=_("paid less sold"))
    def difference_amount(self, mismatch: PaymentMismatch) -> str:
        return str(number_format(mismatch.difference, 2, force_grouping=True))

    @admin.display(description=_("rows"))
    def rows(self, mismatch: PaymentMismatch) -> SafeString:
        """Return links to the order and its payments in the sources, and to its rows in the warehouse."""
        return format_html_join(" ", '<a class="tm-link" href="{}">{}</a>', find_rows(mismatch.order_id))


def find_rows(order: int) -> list[tuple[str, str]]:
    """Return the address and the table of each page with rows of the order."""
    return [
        (reverse("admin:orders_db_order_change", args=[order]), "orders"),
        (f"{reverse('admin:orders_db_orderitem_changelist')}?order_id={order}", "order_items"),
        (f"{reverse('admin:payments_db_payment_changelist')}?order_id={order}", "payments"),
        (f"{reverse('admin:dwh_factsales_changelist')}?q={order}", "fact_sales"),
    ]
