"""Reads that are skipped or done otherwise for speed leave the rows that the oracle expects."""

from typing import Any

import pytest
from django.conf import settings as configured

from apps.demo import shop
from apps.etl.extract.facts import extract_fact
from apps.etl.extract.survey import survey
from apps.etl.tables import FACT_SALES
from apps.orchestration.models import Run, Stage, Task
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, Order, OrderItem
from apps.warehouse.models import DimCustomer, FactSales
from tests.etl.warehouse_rows import compare, expected_rows, run, written

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
# SQLite has no fingerprint of a table that would be cheaper than the table.
FINGERPRINTS = "mysql" in configured.DATABASES["orders_db"]["ENGINE"]


@pytest.fixture
def small() -> None:
    shop.generate(60, 7)


def dimensions_read(done: Run) -> set[str]:
    landed = done.batches.filter(task__stage=Stage.TRANSFORM).values_list("task__subject", flat=True)
    return set(landed) - {"fact_sales"}


# --- Fingerprints ---


def test_an_incremental_run_reads_the_dimensions_whose_sources_have_changed(small: None) -> None:
    run()
    everything = {"dim_product", "dim_category", "dim_customer", "dim_employee", "dim_region", "dim_date"}
    assert dimensions_read(run("incremental")) == (set() if FINGERPRINTS else everything - {"dim_date"})
    product = Product.objects.earliest("pk")
    product.name = "Чайник"
    product.save()
    done = run("incremental")
    assert dimensions_read(done) >= {"dim_product"}
    assert not FINGERPRINTS or dimensions_read(done) == {"dim_product"}
    assert written(done) == {"dim_product": {"inserted": 0, "updated": 1, "deleted": 0, "derived": 0}}
    compare(expected_rows())
    assert not FINGERPRINTS or dimensions_read(run("incremental")) == set()


def test_a_full_run_reads_every_dimension(small: None) -> None:
    """A warehouse that somebody has put a hand in is put right."""
    run()
    customer = DimCustomer.objects.filter(pk__gt=0).earliest("pk")
    DimCustomer.objects.filter(pk=customer.pk).update(last_name="Somebody")
    assert written(run()) == {"dim_customer": {"inserted": 0, "updated": 1, "deleted": 0, "derived": 0}}
    compare(expected_rows())


def test_a_deleted_row_changes_the_fingerprint(small: None) -> None:
    run()
    idle = Customer.objects.exclude(pk__in=Order.objects.values("customer_id")).earliest("pk")
    Customer.objects.filter(pk=idle.pk).delete()
    assert written(run("incremental")) == {"dim_customer": {"inserted": 0, "updated": 0, "deleted": 1, "derived": 0}}


# --- Slices of customers ---


def test_slices_of_customers_give_the_same_rows(small: None, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 7
    done = run()
    assert Task.objects.filter(run=done, stage=Stage.EXTRACT, subject="dim_customer").count() > 4
    compare(expected_rows())
    idle = Customer.objects.exclude(pk__in=Order.objects.values("customer_id")).order_by("pk")
    gone, renamed = idle[0], idle[len(idle) - 1]
    Customer.objects.filter(pk=gone.pk).delete()
    renamed.last_name = "Гнатюк"
    renamed.save()
    assert written(run("incremental")) == {"dim_customer": {"inserted": 0, "updated": 1, "deleted": 1, "derived": 0}}
    assert DimCustomer.objects.get(customer_id=gone.pk).is_deleted
    gone.save(force_insert=True)
    run("incremental")
    compare(expected_rows())


@pytest.mark.skipif(not FINGERPRINTS, reason="SQLite has no fingerprints")
def test_of_a_large_dimension_only_the_slices_that_changed_are_read(small: None, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 7
    run()
    customer = Customer.objects.earliest("pk")
    customer.last_name = "Гнатюк"
    customer.save()
    read = run("incremental").tasks.filter(stage=Stage.TRANSFORM, subject="dim_customer", batches__isnull=False)
    assert [(task.low, task.high) for task in read] == [(None, 8)]
    assert not dimensions_read(run("incremental"))
    compare(expected_rows())


# --- Slices of orders ---


def test_a_line_that_moves_to_another_slice_is_updated_and_not_lost(small: None, settings: Any) -> None:
    """Forward and backward: the slice that it left may be compared before or after the one that it came to."""
    settings.ETL_BATCH_ORDERS = 5
    run()
    sales = [order.pk for order in Order.objects.filter(status="paid").order_by("pk")]
    early, late = OrderItem.objects.filter(order_id=sales[0]), OrderItem.objects.filter(order_id=sales[-1])
    forward, backward = early.earliest("pk").pk, late.earliest("pk").pk
    before = FactSales.objects.count()
    OrderItem.objects.filter(pk=forward).update(order_id=sales[-1])
    OrderItem.objects.filter(pk=backward).update(order_id=sales[0])
    counts = written(run())["fact_sales"]
    assert (counts["inserted"], counts["deleted"]) == (0, 0) and counts["updated"] >= 2
    assert FactSales.objects.count() == before
    compare(expected_rows())


def test_scattered_lines_are_read(small: None) -> None:
    """A slice's lines are read by their own range where that holds few others; a line of the first order, far away, spoils that."""
    first = Order.objects.earliest("pk")
    product = Product.objects.earliest("pk")
    far = OrderItem.objects.latest("pk").pk + 10_000
    OrderItem.objects.create(pk=far, order=first, product_id=product.pk, quantity=1, unit_price=5, discount=0)
    lines = [extract_fact(FACT_SALES, bounds, None)["order_items"] for bounds in survey(None, 10).slices["fact_sales"]]
    read = [int(value) for batch in lines for value in batch["id"].to_pylist()]
    assert sorted(read) == list(OrderItem.objects.order_by("pk").values_list("pk", flat=True))
