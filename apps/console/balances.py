"""The orders that are paid less than their net, and those that are paid more, of the days and the region of the overview."""

from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _

from apps.console.overview.filters import Filters
from apps.console.overview.sales import find_dates
from apps.warehouse.kpis import Side, list_balances, read_balances
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError
from techmarket.messages import translate

SHOWN_ORDERS = 1_000


class BalanceFilters(Filters):
    side = forms.ChoiceField(required=False, choices=[(side, side) for side in Side])


def describe_balances(query: QueryDict) -> dict[str, Any]:
    """Return the context of the page. An unreachable warehouse and filters that cannot be asked are shown, not raised."""
    side = Side.OVERPAID if query.get("side") == Side.OVERPAID else Side.OUTSTANDING
    title = _("Overpaid orders") if side is Side.OVERPAID else _("Outstanding orders")
    context: dict[str, Any] = {"title": title, "side": side}
    try:
        with diagnosed("dwh"):
            form = BalanceFilters(query, find_dates())
            if not form.is_valid():
                return context | {"form": form}
            chosen: dict[str, Any] = {name: form.cleaned_data[name] or None for name in ("start", "end", "region")}
            orders, sums = list_balances(side, SHOWN_ORDERS, **chosen), read_balances(**chosen)
    except EtlError as error:
        return context | {"unreachable": translate(error.message)}
    count = sums.overpaid_orders if side is Side.OVERPAID else sums.outstanding_orders
    total = sums.overpaid if side is Side.OVERPAID else sums.outstanding
    return context | {"form": form, "orders": orders, "count": count, "total": total, "hidden": count - len(orders), "chosen": chosen}
