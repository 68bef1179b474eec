"""Reconcile: planted differences are named with day, order and line; a shop without any raises no alarm."""

import json
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command

from apps.demo import faults, shop
from apps.etl.reconcile import compare
from apps.etl.reconcile.numbers import Orders
from apps.etl.reconcile.payments import find_mismatches
from apps.etl.reconcile.sources import Payments
from apps.orchestration import proof
from apps.orchestration.models import DayProof, PaymentMismatch, Run, StandingReject, Verdict
from apps.orchestration.verified import verified_through
from apps.orchestration.window import Window, shop_date
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import FactSales, Load
from tests.etl.warehouse_rows import age_source_rows, assert_warehouse_equals, compute_expected, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def loaded_shop() -> None:
    """Generate a shop with sales around both changes of the clock, and load it."""
    shop.generate(80, 7)
    for order, instant in zip(Order.objects.filter(status="paid").order_by("id")[:8], AROUND_CLOCK_CHANGES * 2, strict=False):
        Order.objects.filter(pk=order.pk).update(order_date=instant)
    run_etl()


AROUND_CLOCK_CHANGES = [
    datetime(2026, 3, 28, 21, 59, 59, 999_999, tzinfo=UTC),  # the 28th in Kyiv
    datetime(2026, 3, 28, 22, 0, tzinfo=UTC),
    datetime(2025, 10, 25, 20, 59, 59, 999_999, tzinfo=UTC),
    datetime(2025, 10, 26, 22, 0, tzinfo=UTC),
]


def find_sale() -> Order:
    """Return a paid order with several lines and a captured payment."""
    paid = list(Payment.objects.filter(status="captured").values_list("order_id", flat=True))
    return next(order for order in Order.objects.filter(status="paid", id__in=paid).order_by("id") if order.orderitem_set.count() > 1)


def reconcile(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> dict[str, Any]:
    """Run the command, check its exit code, and return its document."""
    capsys.readouterr()
    with pytest.raises(SystemExit) if code else nullcontext() as raised:
        call_command("reconcile", "--json", *options)
    out = capsys.readouterr().out
    assert not code or raised.value.code == code
    found: dict[str, Any] = json.loads(out)
    return found


# --- No false alarm ---


def test_loaded_shop_is_equal_on_every_day(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    document = reconcile(capsys)
    assert document["equal"] and document["days"] == document["orders"] == document["changed_rejects"] == []
    days = DayProof.objects.all()
    assert len(days) == document["days_equal"] > 300 and {day.verdict for day in days} == {Verdict.EQUAL}
    totals = {name: sum(day.source[name] for day in days) for name in ("orders", "lines", "quantity", "net", "paid")}
    facts = list(FactSales.objects.all())
    assert totals == {
        "orders": len({fact.order_id for fact in facts}),
        "lines": len(facts),
        "quantity": sum(fact.quantity for fact in facts),
        "net": sum(int(fact.net_amount * 100) for fact in facts),
        "paid": sum(int(fact.paid_amount * 100) for fact in facts),
    }
    assert document["verified_through"] == shop_date(datetime.now(UTC)).isoformat()


def test_shop_with_rejected_rows_is_equal(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    faults.plant()
    run_etl("incremental")
    assert StandingReject.objects.filter(subject="fact_sales").count() > 5
    assert reconcile(capsys)["equal"]
    assert reconcile(capsys, "--start-date", "2026-03-28", "--end-date", "2026-03-29")["days_equal"] == 2


def test_paid_order_with_a_negative_id_is_equal(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    """SQL's remainder of a negative number is negative, numpy's is not."""
    order = find_sale()
    Order.objects.create(
        id=-3, customer_id=order.customer_id, region_id=order.region_id, status="paid", order_date=order.order_date, total_amount=1
    )
    OrderItem.objects.filter(order=order).update(order_id=-3)
    Payment.objects.filter(order_id=order.pk).update(order_id=-3)
    run_etl("incremental")
    assert reconcile(capsys)["equal"]


def test_reject_that_was_mended_in_the_source_is_named(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = find_sale().orderitem_set.order_by("id")[0]
    OrderItem.objects.filter(pk=line.pk).update(unit_price="-1.00")
    run_etl("incremental")
    assert reconcile(capsys)["equal"]
    OrderItem.objects.filter(pk=line.pk).update(unit_price=line.unit_price)
    age_source_rows()
    found = reconcile(capsys, code=6)
    assert found["changed_rejects"] == [{"table": "order_items", "row": str(line.pk), "order": line.order_id}]
    assert reconcile(capsys, "--repair")["equal"]
    assert_warehouse_equals(compute_expected())


# --- Planted differences ---


def star_kopiyka() -> None:
    more = "net_amount = net_amount + 0.01, gross_amount = gross_amount + 0.01"
    execute("dwh", f"UPDATE fact_sales SET {more} WHERE order_item_id = {first()}")


def star_kopiyka_moved() -> None:
    """No sum of the day or the order changes."""
    one, other = find_sale().orderitem_set.order_by("id")[:2]
    for line, change in ((one, "+ 0.01"), (other, "- 0.01")):
        execute("dwh", f"UPDATE fact_sales SET net_amount = net_amount {change} WHERE order_item_id = {line.pk}")


def star_line_missing() -> None:
    execute("dwh", f"DELETE FROM fact_sales WHERE order_item_id = {first()}")


def star_order_missing() -> None:
    execute("dwh", f"DELETE FROM fact_sales WHERE order_id = {find_sale().pk}")


def star_quantity() -> None:
    execute("dwh", f"UPDATE fact_sales SET quantity = quantity + 1 WHERE order_item_id = {first()}")


def star_day() -> None:
    execute("dwh", f"UPDATE fact_sales SET date_key = 20240305 WHERE order_item_id = {first()}")


def star_product() -> None:
    execute("dwh", f"UPDATE fact_sales SET product_key = product_key % 20 + 1 WHERE order_item_id = {first()}")


def star_customer() -> None:
    execute("dwh", f"UPDATE fact_sales SET customer_key = customer_key % 40 + 1 WHERE order_item_id = {first()}")


def star_paid() -> None:
    execute("dwh", f"UPDATE fact_sales SET paid_amount = paid_amount - 1 WHERE order_item_id = {first()}")


def source_line_edited() -> None:
    OrderItem.objects.filter(pk=first()).update(discount="0.07")


def source_line_deleted() -> None:
    OrderItem.objects.filter(pk=first()).delete()


def source_order_cancelled() -> None:
    Order.objects.filter(pk=find_sale_of(first()).pk).update(status="cancelled")


def source_payment_refunded() -> None:
    Payment.objects.create(order_id=find_sale().pk, method="card", status="refunded", amount="1.00")


def source_line_added() -> None:
    order = find_sale()
    product = Product.objects.exclude(pk__in=list(order.orderitem_set.values_list("product_id", flat=True)))[0]
    OrderItem.objects.create(order=order, product_id=product.pk, quantity=1, unit_price="10.00", discount="0.00")


def source_region() -> None:
    order = find_sale()
    Order.objects.filter(pk=order.pk).update(region_id=order.region_id % 5 + 1)


def first() -> int:
    return int(find_sale().orderitem_set.order_by("id")[0].pk)


def find_sale_of(line: int) -> Order:
    return OrderItem.objects.get(pk=line).order


PLANTED = [
    star_kopiyka,
    star_kopiyka_moved,
    star_line_missing,
    star_order_missing,
    star_quantity,
    star_day,
    star_product,
    star_customer,
    star_paid,
    source_line_edited,
    source_line_deleted,
    source_order_cancelled,
    source_payment_refunded,
    source_line_added,
    source_region,
]
LINES = {star_kopiyka, star_kopiyka_moved, star_line_missing, star_order_missing, star_quantity, star_product} | {
    source_line_edited,
    source_line_deleted,
    source_line_added,
    source_order_cancelled,
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_difference_is_named_and_repaired(loaded_shop: None, capsys: pytest.CaptureFixture[str], plant: Callable[[], None]) -> None:
    order = find_sale()
    day = shop_date(order.order_date).isoformat()
    plant()
    age_source_rows()
    found = reconcile(capsys, code=6)
    assert {each["order"] for each in found["orders"]} == {order.pk}
    assert found["orders"][0]["day"] == day and not found["orders"][0]["changed"]
    assert day in [each["day"] for each in found["days"]] and {each["verdict"] for each in found["days"]} == {"different"}
    assert bool(found["orders"][0]["lines"]) == (plant in LINES)
    assert DayProof.objects.get(day=day).verdict == Verdict.DIFFERENT
    runs = Run.objects.count()
    assert reconcile(capsys, "--repair")["equal"]
    repair = Run.objects.latest("id")
    assert Run.objects.count() == runs + 1 and repair.orders == [order.pk] and repair.found["orders"] == {"repair": 1}
    assert DayProof.objects.get(day=day).verdict == Verdict.EQUAL
    assert_warehouse_equals(compute_expected())


def test_change_since_the_load_is_no_difference(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    age_source_rows()
    source_line_edited()
    found = reconcile(capsys, code=6)
    assert [each["verdict"] for each in found["days"]] == ["changed"] and found["orders"][0]["changed"]
    run_etl("incremental")
    assert reconcile(capsys)["equal"]


def test_many_days_are_compared_in_steps(loaded_shop: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "DAYS_BY_ORDER", 1)
    monkeypatch.setattr(compare, "ORDERS_PER_STEP", 7)
    execute("dwh", "UPDATE fact_sales SET quantity = quantity + 1")
    found = reconcile(capsys, code=6)
    assert {each["order"] for each in found["orders"]} == set(FactSales.objects.values_list("order_id", flat=True))
    assert reconcile(capsys, "--repair")["equal"]


def test_fact_of_no_day_at_all_is_named(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    order = find_sale()
    execute("dwh", f"UPDATE fact_sales SET date_key = -1 WHERE order_id = {order.pk}")
    found = reconcile(capsys, code=6)
    assert [(each["order"], each["day"]) for each in found["orders"]] == [(order.pk, shop_date(order.order_date).isoformat())]
    assert reconcile(capsys, "--repair")["equal"]


def test_only_the_days_of_the_window_are_compared(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    order = find_sale()
    day = shop_date(order.order_date)
    star_kopiyka()
    inside = reconcile(capsys, "--start-date", day.isoformat(), "--end-date", day.isoformat(), code=6)
    assert [each["order"] for each in inside["orders"]] == [order.pk] and DayProof.objects.count() == 1
    other = (day + timedelta(days=1)).isoformat()
    assert reconcile(capsys, "--start-date", other, "--end-date", other)["equal"] and DayProof.objects.count() == 2


# --- Verified through, and a star that changes meanwhile ---


def test_verified_through_ends_before_the_first_day_that_is_not_equal(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified_through() is None
    order = find_sale()
    star_kopiyka()
    reconcile(capsys, code=6)
    through = verified_through()
    day = shop_date(order.order_date)
    earliest = DayProof.objects.earliest("day").day
    assert (through.day if through else None) == (day - timedelta(days=1) if day > earliest else None)
    DayProof.objects.filter(day__lte=day).delete()
    DayProof.objects.filter(day=day + timedelta(days=3)).delete()
    through = verified_through()
    assert through and through.day == day + timedelta(days=2), "a day in between that was never compared"


def test_run_that_is_published_meanwhile_is_not_mistaken_for_a_difference(loaded_shop: None, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def publish(*arguments: Any) -> Any:
        compared.append(arguments)
        if len(compared) == 1:
            Order.objects.filter(pk=find_sale().pk).update(status="cancelled")
            run_etl("incremental")
        return compare.compare(*arguments)

    monkeypatch.setattr(proof, "compare", publish)
    assert proof.prove(Window.everything()).is_equal and len(compared) == 2


# --- Orders and payments ---


def net_of(order: Order) -> Decimal:
    return sum((line.unit_price * line.quantity - line.discount for line in order.orderitem_set.all()), Decimal(0))


def test_orders_are_held_against_their_payments(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    before = {(each["kind"], each["order_id"]) for each in reconcile(capsys)["payments"]}
    orders = list(Order.objects.filter(status="paid").order_by("-id")[:5])
    nets = {order.pk: net_of(order) for order in orders}
    Payment.objects.filter(order_id__in=[order.pk for order in orders]).delete()
    amounts = {1: ["captured -1"], 2: ["captured", "captured"], 3: ["captured", "refunded +1"], 4: ["captured"]}
    for at, payments in amounts.items():
        for each in payments:
            status, _, change = each.partition(" ")
            amount = nets[orders[at].pk] + Decimal(change or 0)
            Payment.objects.create(order_id=orders[at].pk, method="card", status=status, amount=amount)
    Order.objects.filter(pk=orders[4].pk).update(status="cancelled")
    run_etl("incremental")
    found = {(each["kind"], each["order_id"]) for each in reconcile(capsys)["payments"]} - before
    assert found == {
        ("unpaid", orders[0].pk),
        ("differs", orders[1].pk),
        ("captured_twice", orders[2].pk),
        ("differs", orders[2].pk),
        ("refunded_above", orders[3].pk),
        ("unpaid", orders[3].pk),
        ("not_sold", orders[4].pk),
    }


def test_memory_of_a_comparison_does_not_grow_with_unpaid_orders() -> None:
    measure_unpaid(100)  # what is imported on the way
    (few, few_peak), (many, many_peak) = (measure_unpaid(count) for count in (4_000, 16_000))
    assert (many - few) / 12_000 < 100, "bytes that each order takes until all are compared"
    assert many_peak - many < 1.5 * (few_peak - few), "rows of a part of them while they are stored"


def measure_unpaid(count: int) -> tuple[int, int]:
    """Return the bytes that a list of so many unpaid orders takes, and the most that there are until it is stored."""
    ids = np.arange(1, count + 1)
    nothing = np.array([], dtype=np.int64)
    sales = Orders(ids, np.full(count, 20260301), {"net": ids * 100})
    tracemalloc.start()
    found = compare.Comparison(mismatches=find_mismatches(sales, Payments(nothing, nothing, nothing, nothing)))
    held, _ = tracemalloc.get_traced_memory()
    proof.save_mismatches(found, None, datetime(2026, 3, 2, tzinfo=UTC))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert PaymentMismatch.objects.count() == count
    return held, peak


def test_empty_warehouse_differs_from_a_shop_with_sales(capsys: pytest.CaptureFixture[str]) -> None:
    shop.generate(20, 3)
    assert not Load.objects.exists()
    found = reconcile(capsys, code=6)
    assert len(found["orders"]) == len({order.pk for order in Order.objects.filter(status__in=("paid", "shipped"))})


def test_text_names_days_orders_and_lines(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    order = find_sale()
    star_kopiyka()
    with pytest.raises(SystemExit):
        call_command("reconcile")
    captured = capsys.readouterr()
    day = shop_date(order.order_date).isoformat()
    assert f"order {order.pk} of {day} differs" in captured.out and f"line {first()}: net:" in captured.out and "0.01" in captured.out
    assert captured.err.startswith(f"1 orders differ on 1 days, first {day}. `manage.py reconcile --repair`")
