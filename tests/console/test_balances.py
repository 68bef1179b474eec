"""What is outstanding and what is overpaid: never set off against each other, each with its orders. The oracle reads the sources."""

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command

from apps.console.groups import VIEWER
from apps.demo import shop
from apps.orchestration import api
from apps.sources.orders.models import OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.kpis import Side, list_balances, read_balances
from apps.warehouse.report import build_report, find_period_before
from techmarket.formats import localize_rounded_uah, localize_uah
from tests.console.conftest import SignIn, page_text

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
ADDRESS = "/admin/dwh/factsales/balances/"


def compute_balances() -> dict[int, Decimal]:
    """Return net less paid of each sold order, from the sources alone."""
    found: dict[int, Decimal] = defaultdict(Decimal)
    for line in OrderItem.objects.filter(order__status__in=("paid", "shipped")):
        found[line.order_id] += line.quantity * line.unit_price - line.discount
    for payment in Payment.objects.filter(order_id__in=list(found), status__in=("captured", "refunded")):
        found[payment.order_id] -= payment.amount if payment.status == "captured" else -payment.amount
    return {order: balance for order, balance in found.items() if balance}


@pytest.fixture
def balances(transactional_db: None, schedules: None) -> dict[int, Decimal]:
    """Load a shop in which a few orders owe, and one overpayment is more than all of them."""
    shop.generate(200, 7)
    paid = list(Payment.objects.filter(status="captured").order_by("pk")[:6])
    Payment.objects.filter(pk__in=[payment.pk for payment in paid[:3]]).delete()
    Payment.objects.filter(pk=paid[3].pk).update(amount=paid[3].amount - 1)
    Payment.objects.filter(pk=paid[4].pk).update(amount=paid[4].amount + 5_000_000)
    assert api.run("full").state == "succeeded"
    return compute_balances()


def test_overpayment_hides_no_debt(balances: dict[int, Decimal]) -> None:
    owing = {order: balance for order, balance in balances.items() if balance > 0}
    owed = {order: -balance for order, balance in balances.items() if balance < 0}
    found, report = read_balances(), build_report()
    assert (found.outstanding, found.outstanding_orders) == (sum(owing.values()), len(owing))
    assert (found.overpaid, found.overpaid_orders) == (sum(owed.values()), len(owed))
    assert len(owing) >= 4 and owed and found.overpaid > found.outstanding > 0
    assert report.balances == found and 0 < report.paid_percent < 100
    assert {order.order_id: order.amount for order in list_balances(Side.OUTSTANDING, None)} == owing
    assert {order.order_id: order.amount for order in list_balances(Side.OVERPAID, None)} == owed


def test_overview_shows_both_with_their_orders(balances: dict[int, Decimal], sign_in: SignIn) -> None:
    client, found = sign_in(VIEWER), read_balances()
    text = page_text(client, "/admin/", start="", end="")
    for amount in (found.outstanding, found.overpaid):
        assert localize_rounded_uah(amount) in text
    assert "vs. previous period" not in text
    for side, total in ((Side.OUTSTANDING, found.outstanding), (Side.OVERPAID, found.overpaid)):
        listed = page_text(client, ADDRESS, side=side, start="", end="")
        assert f"Total: {localize_uah(total)}" in listed
        for order, balance in balances.items():
            assert (f" {order} " in listed) or (balance > 0) != (side is Side.OUTSTANDING)


def test_terminal_lists_both(balances: dict[int, Decimal], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("kpis", balances=True)
    out = capsys.readouterr().out
    assert "Orders outstanding, the largest first" in out and "Orders overpaid, the largest first" in out


@pytest.mark.parametrize(
    "query",
    [
        {"start": "99999-01-01"},
        {"end": "x"},
        {"region": "'"},
        {"side": "\0"},
        {"side": "both"},
        {"start": "2026-05-05", "end": "2026-01-01"},
    ],
)
def test_filters_without_an_answer_show_a_message(transactional_db: None, sign_in: SignIn, query: dict[str, Any]) -> None:
    answer = sign_in(VIEWER).get(ADDRESS, query)
    assert answer.status_code == 200 and 'role="alert"' in answer.content.decode()


@pytest.mark.parametrize(
    ("period", "before"),
    [
        (("2026-03-01", "2026-03-31"), ("2026-02-01", "2026-02-28")),
        (("2026-01-01", "2026-03-31"), ("2025-10-01", "2025-12-31")),
        (("2024-01-01", "2024-12-31"), ("2023-01-01", "2023-12-31")),
        (("2026-03-10", "2026-03-19"), ("2026-02-28", "2026-03-09")),
        (("2026-03-01", "2026-03-30"), ("2026-01-30", "2026-02-28")),
    ],
)
def test_period_before_is_as_long_or_the_same_calendar_period(period: tuple[str, str], before: tuple[str, str]) -> None:
    start, end = map(date.fromisoformat, period)
    assert find_period_before(start, end) == tuple(map(date.fromisoformat, before))
    assert find_period_before(None, end) is None and find_period_before(date.min, date.max) is None
