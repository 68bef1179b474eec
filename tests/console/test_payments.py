"""The page of orders whose payments do not fit: five lists with their money, links, and a file."""

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse

from apps.console import payments
from apps.console.groups import VIEWER
from apps.demo import shop
from apps.orchestration import proof
from apps.orchestration.models import Mismatch, PaymentMismatch
from apps.orchestration.proof import prove
from apps.orchestration.window import Window, shop_date
from apps.sources.orders.models import Order
from apps.sources.payments.models import Payment
from tests.console.conftest import SignIn, page_text
from tests.etl.warehouse_rows import run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIST, FILE = "admin:orchestration_paymentmismatch_changelist", "admin:orchestration_paymentmismatch_csv"


@pytest.fixture
def loaded_shop() -> None:
    shop.generate(60, 7)
    run_etl()
    prove(Window.everything())
    assert not PaymentMismatch.objects.exists(), "a clean shop is on no list"


def find_sales() -> list[Order]:
    """Return paid orders with a single payment, which is captured."""
    orders = Order.objects.filter(status="paid").order_by("pk")
    return [order for order in orders if [p.status for p in Payment.objects.filter(order_id=order.pk)] == ["captured"]]


def plant() -> dict[Mismatch, Order]:
    """Put an order on each list, and return it by list."""
    sales = dict(zip(Mismatch, find_sales(), strict=False))
    captured = {kind: Payment.objects.get(order_id=order.pk) for kind, order in sales.items()}
    paid = {"method": "card", "paid_at": captured[Mismatch.UNPAID].paid_at}
    captured[Mismatch.UNPAID].delete()
    Order.objects.filter(pk=sales[Mismatch.NOT_SOLD].pk).update(status="cancelled")
    Payment.objects.filter(pk=captured[Mismatch.DIFFERS].pk).update(amount=captured[Mismatch.DIFFERS].amount - 1)
    twice, above = captured[Mismatch.CAPTURED_TWICE], captured[Mismatch.REFUNDED_ABOVE]
    Payment.objects.create(order_id=twice.order_id, amount=twice.amount, status="captured", **paid)
    Payment.objects.create(order_id=above.order_id, amount=above.amount + 5, status="refunded", **paid)
    return sales


def listed(kind: str) -> list[int]:
    return list(PaymentMismatch.objects.filter(kind=kind).order_by("order_id").values_list("order_id", flat=True))


def test_each_list_has_its_orders_with_money_and_links(loaded_shop: None, sign_in: SignIn) -> None:
    client = sign_in(VIEWER)
    assert "after each scheduled run" in page_text(client, reverse(LIST))
    sales = plant()
    prove(Window.everything())
    for kind, order in sales.items():
        assert order.pk in listed(kind)
        mismatch = PaymentMismatch.objects.get(kind=kind, order_id=order.pk)
        page = client.get(reverse("admin:orchestration_paymentmismatch_change", args=[mismatch.pk])).content.decode()
        assert reverse("admin:orders_db_order_change", args=[order.pk]) in page and f"payments_db/payment/?order_id={order.pk}" in page
        assert f"dwh/factsales/?q={order.pk}" in page
        text = page_text(client, reverse(LIST), kind__exact=kind)
        assert str(kind.label) in text and str(order.pk) in text
    differs = PaymentMismatch.objects.get(kind=Mismatch.DIFFERS, order_id=sales[Mismatch.DIFFERS].pk)
    assert differs.difference == Decimal("-1.00") and differs.day == shop_date(sales[Mismatch.DIFFERS].order_date)
    assert PaymentMismatch.objects.get(kind=Mismatch.NOT_SOLD).day is None
    assert "orders whose payments do not fit" in page_text(client, reverse("admin:orchestration_dayproof_changelist"))


def test_comparison_of_some_days_replaces_only_their_orders(loaded_shop: None) -> None:
    sales = plant()
    prove(Window.everything())
    before = {kind: listed(kind) for kind in Mismatch}
    mended, cancelled = sales[Mismatch.DIFFERS], sales[Mismatch.NOT_SOLD]
    for order in (mended, cancelled):
        net = sum((line.unit_price * line.quantity - line.discount for line in order.orderitem_set.all()), Decimal(0))
        Payment.objects.filter(order_id=order.pk).update(amount=net)
    Order.objects.filter(pk=cancelled.pk).update(status="paid")
    day = shop_date(mended.order_date)
    prove(Window.between(day, day))
    others = {kind: [pk for pk in orders if pk != mended.pk] for kind, orders in before.items()}
    assert {kind: listed(kind) for kind in Mismatch} == others
    day = shop_date(cancelled.order_date)
    prove(Window.between(day, day))
    assert not PaymentMismatch.objects.filter(order_id__in=[mended.pk, cancelled.pk]).exists()
    assert listed(Mismatch.UNPAID) == before[Mismatch.UNPAID]


def test_payment_without_an_order_is_listed(loaded_shop: None) -> None:
    Payment.objects.create(order_id=999_999, amount="70.10", method="card", status="captured")
    prove(Window.everything())
    [found] = PaymentMismatch.objects.all()
    assert (found.kind, found.order_id, found.captured, found.net, found.day) == (Mismatch.NOT_SOLD, 999_999, Decimal("70.10"), 0, None)


def test_full_list_shows_that_there_may_be_more(loaded_shop: None, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    plant()
    for module in (proof, payments):
        monkeypatch.setattr(module, "MAX_MISMATCHES", 1)
    prove(Window.everything())
    assert {kind: len(listed(kind)) for kind in Mismatch} == dict.fromkeys(Mismatch, 1)
    text = page_text(sign_in(VIEWER), reverse(LIST))
    assert "≥ 1" in text and text.count("only the first orders are stored") == 1


def test_file_has_the_orders_that_the_filter_selects(loaded_shop: None, sign_in: SignIn) -> None:
    sales = plant()
    prove(Window.everything())
    client: Any = sign_in(VIEWER)

    def read(**where: str) -> list[dict[str, str]]:
        text = b"".join(client.get(reverse(FILE), where)).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))

    assert len(read()) == PaymentMismatch.objects.count()
    [row] = [row for row in read(kind__exact="differs") if row["order_id"] == str(sales[Mismatch.DIFFERS].pk)]
    assert (row["list"], row["difference"]) == ("differs", "-1.00") and Decimal(row["net"]) - Decimal(row["captured"]) == 1
