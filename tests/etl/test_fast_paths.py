"""Skipped and optimised reads leave the rows that the oracle expects."""

from typing import Any

import pytest

from apps.demo import shop
from apps.etl.extract.facts import extract_fact
from apps.etl.extract.survey import survey_everything
from apps.etl.tables import FACT_SALES
from apps.orchestration.models import Run, Stage, Task
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, Order, OrderItem
from apps.warehouse.models import DimCustomer, FactSales
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, count_written_rows, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def small_shop() -> None:
    shop.generate(60, 7)


def list_dimensions_read(run: Run) -> set[str]:
    subjects = run.batches.filter(task__stage=Stage.TRANSFORM).values_list("task__subject", flat=True)
    return set(subjects) - {"fact_sales"}


# --- Fingerprints ---


def test_an_incremental_run_reads_the_dimensions_whose_sources_have_changed(small_shop: None) -> None:
    run_etl()
    assert list_dimensions_read(run_etl("incremental")) == set()
    product = Product.objects.earliest("pk")
    product.name = "Чайник"
    product.save()
    run = run_etl("incremental")
    assert list_dimensions_read(run) == {"dim_product"}
    assert count_written_rows(run) == {"dim_product": {"inserted": 0, "updated": 1, "deleted": 0, "derived": 0}}
    assert_warehouse_equals(compute_expected())
    assert list_dimensions_read(run_etl("incremental")) == set()


def test_a_full_run_reads_every_dimension(small_shop: None) -> None:
    """It corrects a row that was changed by hand in the warehouse."""
    run_etl()
    customer = DimCustomer.objects.filter(pk__gt=0).earliest("pk")
    DimCustomer.objects.filter(pk=customer.pk).update(last_name="Somebody")
    assert count_written_rows(run_etl()) == {"dim_customer": {"inserted": 0, "updated": 1, "deleted": 0, "derived": 0}}
    assert_warehouse_equals(compute_expected())


def test_a_deleted_row_changes_the_fingerprint(small_shop: None) -> None:
    run_etl()
    idle = Customer.objects.exclude(pk__in=Order.objects.values("customer_id")).earliest("pk")
    Customer.objects.filter(pk=idle.pk).delete()
    assert count_written_rows(run_etl("incremental")) == {"dim_customer": {"inserted": 0, "updated": 0, "deleted": 1, "derived": 0}}


# --- Slices of customers ---


def test_slices_of_customers_give_the_same_rows(small_shop: None, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 7
    run = run_etl()
    assert Task.objects.filter(run=run, stage=Stage.EXTRACT, subject="dim_customer").count() > 4
    assert_warehouse_equals(compute_expected())
    idle = Customer.objects.exclude(pk__in=Order.objects.values("customer_id")).order_by("pk")
    deleted, renamed = idle[0], idle[len(idle) - 1]
    Customer.objects.filter(pk=deleted.pk).delete()
    renamed.last_name = "Гнатюк"
    renamed.save()
    assert count_written_rows(run_etl("incremental")) == {"dim_customer": {"inserted": 0, "updated": 1, "deleted": 1, "derived": 0}}
    assert DimCustomer.objects.get(customer_id=deleted.pk).is_deleted
    deleted.save(force_insert=True)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())


def test_only_changed_slices_of_a_large_dimension_are_read(small_shop: None, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 7
    run_etl()
    customer = Customer.objects.earliest("pk")
    customer.last_name = "Гнатюк"
    customer.save()
    read = run_etl("incremental").tasks.filter(stage=Stage.TRANSFORM, subject="dim_customer", batches__isnull=False)
    assert [(task.low, task.high) for task in read] == [(None, 8)]
    assert not list_dimensions_read(run_etl("incremental"))
    assert_warehouse_equals(compute_expected())


# --- Slices of orders ---


def test_line_that_moves_to_another_slice_is_updated(small_shop: None, settings: Any) -> None:
    """Moves one line in each direction: the old slice may be compared before or after the new one."""
    settings.ETL_BATCH_ORDERS = 5
    run_etl()
    sales = [order.pk for order in Order.objects.filter(status="paid").order_by("pk")]
    early, late = OrderItem.objects.filter(order_id=sales[0]), OrderItem.objects.filter(order_id=sales[-1])
    forward, backward = early.earliest("pk").pk, late.earliest("pk").pk
    before = FactSales.objects.count()
    OrderItem.objects.filter(pk=forward).update(order_id=sales[-1])
    OrderItem.objects.filter(pk=backward).update(order_id=sales[0])
    counts = count_written_rows(run_etl())["fact_sales"]
    assert (counts["inserted"], counts["deleted"]) == (0, 0) and counts["updated"] >= 2
    assert FactSales.objects.count() == before
    assert_warehouse_equals(compute_expected())


def test_scattered_lines_are_read(small_shop: None) -> None:
    """A slice's lines are read by their own id range if it holds few other lines; a distant line of the first order prevents that."""
    first = Order.objects.earliest("pk")
    product = Product.objects.earliest("pk")
    distant = OrderItem.objects.latest("pk").pk + 10_000
    OrderItem.objects.create(pk=distant, order=first, product_id=product.pk, quantity=1, unit_price=5, discount=0)
    lines = [extract_fact(FACT_SALES, bounds)["order_items"] for bounds in survey_everything(10).slices["fact_sales"]]
    read = [int(value) for batch in lines for value in batch["id"].to_pylist()]
    assert sorted(read) == list(OrderItem.objects.order_by("pk").values_list("pk", flat=True))
