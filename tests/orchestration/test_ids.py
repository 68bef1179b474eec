"""What is an id: every whole number that a bigint holds, and nothing else. A rejected row whose id is taken for none looks deleted."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.db import connections

from apps.demo import shop
from apps.etl.slices import EVERYTHING, NO_ID, SMALLEST_ID, inside, parse_integer, whole_number
from apps.orchestration.models import RejectState, StandingReject
from apps.sources.orders.models import Customer, Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import DimCustomer, FactSales
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, count_written_rows, execute, run_etl
from tests.orchestration.test_rejects import break_registration, mend_registration

IDS = (-5, 0, 2**53 + 1, 10**18, 2**63 - 1, -(10**18), 1 - 2**63)


@pytest.mark.parametrize(
    ("text", "number"),
    [(str(each), each) for each in (*IDS, SMALLEST_ID)] + [("007", 7), ("-0", 0), ("000000000000000000000007", 7)],
)
def test_whole_numbers_that_a_bigint_holds_are_ids(text: str, number: int) -> None:
    assert parse_integer(text) == whole_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["+7", " 7", "7 ", "7\n", "7.0", "1e3", "1_000", "0x10", "１２", "²", "٣", "--7", "-", str(2**63), str(-(2**63) - 1), "9" * 5_000],
)
def test_anything_else_is_none(text: str) -> None:
    assert parse_integer(text) is None and whole_number(text) == NO_ID


def test_no_id_is_below_an_open_slice() -> None:
    ids = np.array([SMALLEST_ID, NO_ID - 1, NO_ID, 0, 2**63 - 1])
    assert inside(ids, EVERYTHING).all() and inside(ids, (None, 0)).tolist() == [True, True, True, False, False]


@pytest.fixture
def loaded_shop(settings: Any) -> Iterator[None]:
    settings.ETL_BATCH_ORDERS = 25
    shop.generate(60, 7)
    run_etl()
    yield
    for alias, tables in {"orders_db": ("order_items", "orders", "customers"), "payments_db": ("payments",)}.items():
        for table in tables if connections[alias].vendor == "mysql" else ():  # the next id after the largest would be none
            execute(alias, f"DELETE FROM {table}")
            execute(alias, f"ALTER TABLE {table} AUTO_INCREMENT = 1")


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("number", IDS)
def test_rejected_customer_is_not_taken_for_a_deleted_one(loaded_shop: None, number: int) -> None:
    idle = Customer.objects.earliest("pk")
    Customer.objects.create(pk=77_777, first_name="Леся", last_name="У", email="lesia@example.com", phone="", region_id=idle.region_id)
    execute("orders_db", f"UPDATE customers SET id = {number} WHERE id = 77777")  # Django gives MySQL no 0 as an id
    run_etl("incremental")
    break_registration(number)
    for mode in ("incremental", "full", "incremental"):
        run_etl(mode)
        assert StandingReject.objects.get(table="customers", row_id=str(number)).state == RejectState.OPEN
        assert not DimCustomer.objects.get(customer_id=number).is_deleted
    mend_registration(number)
    run_etl("incremental")
    assert StandingReject.objects.get(table="customers", row_id=str(number)).state == RejectState.CLEARED
    Customer.objects.filter(pk=number).delete()
    run_etl("incremental")
    assert DimCustomer.objects.get(customer_id=number).is_deleted


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("number", IDS)
def test_order_line_and_payment_of_any_id_are_loaded_rejected_and_mended(loaded_shop: None, number: int) -> None:
    payment = Payment.objects.filter(status="captured").earliest("pk")
    line = OrderItem.objects.filter(order_id=payment.order_id).earliest("pk")
    Payment.objects.filter(order_id=payment.order_id).update(order_id=number)
    execute("payments_db", f"UPDATE payments SET id = {number} WHERE id = {payment.pk}")
    for statement in (
        f"INSERT INTO orders (id, customer_id, region_id, order_date, status, total_amount, created_at, updated_at) "
        f"SELECT {number if number else 88_888}, customer_id, region_id, order_date, status, total_amount, created_at, updated_at "
        f"FROM orders WHERE id = {payment.order_id}",
        f"UPDATE orders SET id = {number} WHERE id = 88888",
        f"UPDATE order_items SET order_id = {number} WHERE order_id = {payment.order_id}",
        f"UPDATE order_items SET id = {number} WHERE id = {line.pk}",
    ):
        execute("orders_db", statement)
    Order.objects.filter(pk=payment.order_id).delete()
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert FactSales.objects.filter(pk=number, order_id=number).exists()
    OrderItem.objects.filter(pk=number).update(unit_price=-5)
    run_etl("incremental")
    assert StandingReject.objects.get(table="order_items").slice_id == number
    assert not FactSales.objects.filter(pk=number).exists()
    OrderItem.objects.filter(pk=number).update(unit_price=line.unit_price)
    run_etl("incremental")
    assert StandingReject.objects.get(table="order_items").state == RejectState.CLEARED
    assert_warehouse_equals(compute_expected())
    assert count_written_rows(run_etl("full")) == {}
