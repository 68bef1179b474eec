"""The loaded warehouse, row by row, against the oracle, a second implementation of the specification."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections, transaction

from apps.demo import changes, faults, shop
from apps.etl.load.copying import create_stage
from apps.etl.load.dimensions import FLAG_VANISHED
from apps.etl.load.fact_changes import FactChanges
from apps.etl.load.fact_merge import FactMerge
from apps.etl.load.revenue import stage_unsold_orders
from apps.etl.tables import FACT_SALES
from apps.orchestration.models import Batch, CheckResult, Mode, Reject, RowCount, Run, Task
from apps.orchestration.results import document
from apps.orchestration.window import Window, today
from apps.sources.auth.models import User, UserRole
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Customer, Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import DimCategory, DimCustomer, DimDate, DimProduct, FactSales, Load
from tests.etl import warehouse_rows
from tests.etl.warehouse_rows import age_source_rows, assert_warehouse_equals, compute_expected, count_written_rows, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def demo_shop() -> None:
    shop.generate(600, 42)


@pytest.fixture
def small_shop() -> None:
    shop.generate(60, 7)


def set_updated_at(model: Any, pk: int, instant: str) -> None:
    with connections[model._meta.app_label].cursor() as cursor:
        cursor.execute(f"UPDATE {model._meta.db_table} SET updated_at = %s WHERE id = %s", [instant, pk])


def find_sale(lines: int = 1, after: int = 0) -> Order:
    """Return a paid order with at least `lines` lines and an id above `after`."""
    for order in Order.objects.filter(status="paid", id__gt=after).order_by("id"):
        if order.orderitem_set.count() >= lines:
            return order
    raise AssertionError("no such order")


# --- Full ---


def test_demo_shop_is_loaded_as_specified(demo_shop: None) -> None:
    run = run_etl()
    expected = compute_expected()
    assert_warehouse_equals(expected)
    warehouse_rows.assert_ledger_equals(expected, run)
    warehouse_rows.assert_balanced(run)
    assert len(expected.facts) > 1000 and not expected.rejects
    paid = sum((row["paid_amount"] for row in warehouse_rows.read_facts().values()), Decimal(0))
    assert paid == sum(row["amount"] for row in Payment.objects.filter(status="captured").values("amount"))
    assert not Load.objects.exclude(run_uuid=run.uuid).exists() and Load.objects.get().high_water_mark == run.high_water_mark


def test_slices_of_orders_give_the_same_rows(demo_shop: None, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 37
    run = run_etl()
    assert Task.objects.filter(run=run, subject="fact_sales").count() > 20
    expected = compute_expected()
    assert_warehouse_equals(expected)
    warehouse_rows.assert_ledger_equals(expected, run)


RULES = {
    "quantity 0": "bad_quantity",
    "quantity negative": "bad_quantity",
    "quantity not whole": "not_whole",
    "price negative": "negative_price",
    "discount negative": "negative_discount",
    "discount over gross": "discount_over_gross",
    "price too large": "bad_money",
    "gross too large": "bad_money",
    "price not a number": "bad_money",
    "quantity 0, cancelled order": "bad_quantity",
    "no order date": "missing_date",
    "zero date": "bad_date",
    "date too early": "date_out_of_range",
    "date in the future": "date_out_of_range",
    "order status unknown": "unknown_status",
    "no customer": "missing_customer",
    "payment method unknown": "unknown_method",
    "payment status unknown": "unknown_status",
    "payment of 0": "bad_money",
    "payment negative": "bad_money",
    "product not UTF-8": "bad_text",
    "customer not UTF-8": "bad_text",
    "text too long": "bad_text",
    "second account": "duplicate",
}


@pytest.mark.parametrize("slices", [20_000, 50])
def test_every_planted_fault_is_rejected_and_nothing_else(demo_shop: None, settings: Any, slices: int) -> None:
    settings.ETL_BATCH_ORDERS = slices
    planted = faults.plant()
    run = run_etl()
    expected = compute_expected()
    assert_warehouse_equals(expected)
    warehouse_rows.assert_ledger_equals(expected, run)
    warehouse_rows.assert_balanced(run)
    rejected_faults = [fault for fault in planted if fault.rejected]
    rules = {(table, row_id): rule for table, row_id, rule in Reject.objects.values_list("table", "row_id", "rule")}
    for fault in rejected_faults:
        row_id = fault.row_id
        if fault.kind == "second account":  # the newer account is remaining
            customer = User.objects.get(id=row_id).customer_id
            row_id = User.objects.filter(customer_id=customer).order_by("id")[0].id
        assert rules.pop((fault.table, str(row_id))) == RULES[fault.kind], fault
    orders = [fault.row_id for fault in rejected_faults if fault.table == "orders"]
    lines_of_orders = OrderItem.objects.filter(order_id__in=orders).values_list("id", flat=True)
    assert rules == {("order_items", str(line)): "order_rejected" for line in lines_of_orders}


def test_unparsable_email_is_loaded_with_a_warning(small_shop: None) -> None:
    customer = Customer.objects.order_by("id")[4]
    Customer.objects.filter(id=customer.id).update(email="nobody at example.com")
    run = run_etl()
    assert DimCustomer.objects.get(customer_id=customer.id).email == "nobody at example.com"
    [warning] = CheckResult.objects.filter(run=run, passed=False)
    assert (warning.name, warning.table, warning.blocking, warning.observed) == (
        "valid e-mail",
        "dim_customer",
        False,
        f"1 row (id {customer.id})",
    )


@pytest.mark.parametrize("slices", [20_000, 25])
def test_captured_payment_of_nothing_is_warned_about_with_its_amount(small_shop: None, settings: Any, slices: int) -> None:
    settings.ETL_BATCH_ORDERS = slices
    run_etl()
    paid = {"method": "card", "status": "captured", "paid_at": datetime.now(UTC)}
    order = find_sale(after=30)
    empty = Order.objects.create(
        customer_id=order.customer_id, region_id=order.region_id, order_date=datetime.now(UTC), status="paid", total_amount=0
    )
    without_order = [Payment.objects.create(order_id=order.pk + 10_000, amount=amount, **paid) for amount in ("70.10", "0.05")]
    without_lines = Payment.objects.create(order_id=empty.pk, amount="12.00", **paid)
    Payment.objects.create(order_id=order.pk + 10_001, amount="5.00", method="card", status="failed")
    run = run_etl("incremental")
    warnings = CheckResult.objects.filter(run=run, passed=False).order_by("name")
    ids = ", ".join(str(payment.pk) for payment in without_order)
    assert [(str(each.name).partition(" [")[0], each.table, each.blocking, each.observed) for each in warnings] == [
        ("captured payments of orders without lines", "payments", False, f"1 row (id {without_lines.pk}), 12.00 UAH"),
        ("captured payments without an order", "payments", False, f"2 rows (id {ids}), 70.15 UAH"),
    ]
    age_source_rows()
    assert run_etl("incremental") and not CheckResult.objects.filter(run=run_etl("incremental"), passed=False).exists(), "not read again"
    OrderItem.objects.filter(order_id=order.pk).update(quantity=0)  # its lines are rejected, and not missing
    assert not [check for check in CheckResult.objects.filter(run=run_etl("incremental"), passed=False) if "captured" in str(check.name)]


def test_reject_stores_the_raw_row(small_shop: None) -> None:
    line = OrderItem.objects.order_by("id")[3]
    OrderItem.objects.filter(id=line.id).update(quantity=-4, unit_price=Decimal("0.10"), discount=Decimal("3.50"))
    run_etl()
    reject = Reject.objects.get()
    assert (reject.table, reject.row_id, reject.rule, reject.reason) == (
        "order_items",
        str(line.id),
        "bad_quantity",
        "quantity is not between 1 and 2147483647",
    )
    assert reject.raw == {
        "id": str(line.id),
        "order_id": str(line.order_id),
        "product_id": str(line.product_id),
        "quantity": "-4",
        "unit_price": "0.1" if connections["orders_db"].vendor == "sqlite" else "0.10",  # SQLite stores a number without trailing zeros
        "discount": "3.5" if connections["orders_db"].vendor == "sqlite" else "3.50",
    }


def test_calendar_is_complete_and_correct(small_shop: None) -> None:
    Order.objects.filter(id=find_sale().id).update(order_date=datetime(2016, 2, 29, 22, 30, tzinfo=UTC))
    run_etl()
    days = {row["date"]: row for row in DimDate.objects.filter(pk__gt=0).values()}
    last = today().year + 2
    expected = [date(2016, 1, 1) + timedelta(days=n) for n in range(366)]
    expected += [date(2020, 1, 1) + timedelta(days=n) for n in range((date(last, 12, 31) - date(2020, 1, 1)).days + 1)]
    assert sorted(days) == expected
    for day, row in days.items():
        assert row["date_key"] == int(day.strftime("%Y%m%d"))
        assert f"{row['year']}-{row['month']}-{row['day']}-{row['day_of_week']}" == day.strftime("%Y-%-m-%-d-%u")
        assert (row["iso_week"], row["quarter"]) == (int(day.strftime("%V")), (day.month - 1) // 3 + 1)
        assert row["is_weekend"] == (day.strftime("%u") in "67")
    assert FactSales.objects.filter(date_id=20160301).exists(), "half past midnight in Kyiv"


def test_special_members_exist_after_every_run(small_shop: None) -> None:
    run_etl()
    for model, key in ((DimCategory, "name"), (DimProduct, "name"), (DimCustomer, "email")):
        assert dict(model.objects.filter(pk__lt=0).values_list("pk", key)) == {-1: "Unknown", -2: "Not applicable"}
    assert dict(DimDate.objects.filter(pk__lt=0).values_list("pk", "month_name")) == {-1: "Unknown", -2: "Not applicable"}
    assert run_etl("full").state == "succeeded"
    assert DimCategory.objects.filter(pk__lt=0).count() == 2


# --- Repeated runs ---


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_second_run_writes_nothing(demo_shop: None, mode: str) -> None:
    faults.plant()
    run_etl()
    before = warehouse_rows.read_warehouse()
    run = run_etl(mode)
    assert count_written_rows(run) == {}
    warehouse_rows.assert_balanced(run)
    after = warehouse_rows.read_warehouse()
    assert after.pop("etl_load")[0] and before.pop("etl_load")
    assert after == before


def test_incremental_runs_equal_a_full_load_of_an_empty_warehouse(demo_shop: None) -> None:
    run_etl()
    costs = dict(FactSales.objects.values_list("pk", "cost_amount"))
    for number in range(3):
        keys = warehouse_rows.read_surrogate_keys()
        changes.apply(60, seed=number)
        run = run_etl("incremental")
        assert document(run)["window"]["start"] is not None
        warehouse_rows.assert_balanced(run)
        assert_warehouse_equals(compute_expected())
        later = warehouse_rows.read_surrogate_keys()
        assert all(later[table][natural] == key for table, table_keys in keys.items() for natural, key in table_keys.items())
    assert costs and count_written_rows(run_etl("full")) == {}
    with_changes = {table: warehouse_rows.read_dimension(table) for table in warehouse_rows.DIMENSIONS} | {
        "fact_sales": warehouse_rows.read_facts()
    }
    for model in (FactSales, *[model for model, _ in reversed(warehouse_rows.DIMENSIONS.values())], Load):
        model.objects.all().delete()
    run_etl()
    reloaded = {table: warehouse_rows.read_dimension(table) for table in warehouse_rows.DIMENSIONS} | {
        "fact_sales": warehouse_rows.read_facts()
    }
    assert reloaded == with_changes


def test_rows_with_faults_leave_the_fact_and_return_when_corrected(demo_shop: None) -> None:
    run_etl()
    planted = faults.plant()
    run = run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert Reject.objects.filter(run=run).count() >= len([fault for fault in planted if fault.rejected])
    order_fault = next(fault for fault in planted if fault.kind == "no customer")
    Order.objects.filter(id=order_fault.row_id).update(customer_id=1)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert FactSales.objects.filter(order_id=order_fault.row_id).exists()


# --- Costs and products ---


def test_cost_stays_when_the_catalog_changes_and_follows_the_quantity(small_shop: None) -> None:
    run_etl()
    order = find_sale(lines=2)
    line, other = order.orderitem_set.order_by("id")[:2]
    before = dict(FactSales.objects.values_list("pk", "cost_amount"))
    unit = before[line.id] / line.quantity
    Product.objects.all().update(cost=Decimal("12.34"))
    OrderItem.objects.filter(id=line.id).update(quantity=line.quantity + 7, discount=0)
    for mode in ("incremental", "full"):
        run_etl(mode)
        costs = dict(FactSales.objects.values_list("pk", "cost_amount"))
        assert costs.pop(line.id) == unit * (line.quantity + 7)
        assert costs == {pk: cost for pk, cost in before.items() if pk != line.id}
        assert DimProduct.objects.get(product_id=other.product_id).cost == Decimal("12.34")
    fact = FactSales.objects.get(pk=line.id)
    assert fact.margin_amount == fact.net_amount - fact.cost_amount == line.unit_price * (line.quantity + 7) - unit * (line.quantity + 7)


def test_cost_stays_when_a_line_moves_to_an_order_of_another_slice(small_shop: None, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 10
    run_etl()
    line = find_sale().orderitem_set.order_by("id")[0]
    before = FactSales.objects.get(pk=line.id)
    Product.objects.all().update(cost=Decimal("12.34"))
    OrderItem.objects.filter(id=line.id).update(order=Order.objects.filter(status="paid").order_by("-id")[0])
    run_etl("full")
    fact = FactSales.objects.get(pk=line.id)
    assert (fact.order_id == before.order_id, fact.cost_amount, fact.margin_amount) == (False, before.cost_amount, before.margin_amount)


def test_vanished_rows_are_found_without_a_search_per_row(small_shop: None) -> None:
    """SQLite has no index of a staging table: a search in it for each of 130 000 rows took hours."""
    run_etl()
    with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        create_stage(cursor, "stage_dim_product", "dim_product", ["product_key"])
        vanished_products = FLAG_VANISHED.format(table="dim_product", stage="stage_dim_product", key="product_key", where="1 = 1", run=1)
        for statement in [*statements_of_a_merge(cursor), vanished_products]:
            cursor.execute(f"{'EXPLAIN' if cursor.db.vendor == 'postgresql' else 'EXPLAIN QUERY PLAN'} {statement}")
            plan = "\n".join(str(row) for row in cursor.fetchall())
            assert "CORRELATED" not in plan and "(SubPlan" not in plan, f"{statement}\n{plan}"  # (hashed SubPlan 1) is read once


def statements_of_a_merge(cursor: Any) -> list[str]:
    """Merge nothing into the fact, one row of which has moved, and return the statements that ask the changed table."""
    statements = []

    def record(execute: Any, sql: str, *more: Any) -> Any:
        statements.append(sql)
        return execute(sql, *more)

    list(stage_unsold_orders(cursor, [], "etl_order"))
    changes = FactChanges(cursor, FACT_SALES, "changed_fact_sales")
    changes.create_temporary()
    merge = FactMerge(cursor, changes, 1, 0)
    columns = ", ".join([FACT_SALES.key, *FACT_SALES.columns])
    cursor.execute(f"INSERT INTO {merge.changed} ({columns}) SELECT {columns} FROM fact_sales LIMIT 1")
    with cursor.db.execute_wrapper(record):
        merge.compare((), ())
        merge.write()
    found = [sql for sql in statements if merge.changed in sql and "ANALYZE" not in sql]
    assert {sql.split()[0] for sql in found} >= {"UPDATE", "DELETE", "INSERT", "SELECT"}
    return found


def test_line_changed_to_another_product_gets_its_cost(small_shop: None) -> None:
    run_etl()
    line = find_sale().orderitem_set.order_by("id")[0]
    used_products = list(OrderItem.objects.filter(order_id=line.order_id).values_list("product_id", flat=True))
    other = Product.objects.exclude(id__in=used_products).order_by("-id")[0]
    OrderItem.objects.filter(id=line.id).update(product_id=other.id)
    run_etl("incremental")
    fact = FactSales.objects.get(pk=line.id)
    assert (fact.product.product_id, fact.cost_amount) == (other.id, other.cost * line.quantity)
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_cost_of_an_unknown_product_is_null_until_it_appears(small_shop: None, mode: str) -> None:
    line, second = OrderItem.objects.filter(order__status="paid").order_by("id")[:2]
    OrderItem.objects.filter(id=line.id).update(product_id=777)
    OrderItem.objects.filter(id=second.id).update(product_id=778)
    run_etl()
    assert_warehouse_equals(compute_expected())
    before = FactSales.objects.get(pk=line.id)
    assert (before.cost_amount, before.margin_amount, before.category_id) == (None, None, -1)
    inferred = DimProduct.objects.get(product_id=777)
    assert inferred.is_inferred and inferred.name == "Unknown"
    age_source_rows()
    category = Category.objects.order_by("id")[3]
    Product.objects.create(id=777, name="Новинка", sku="NEW-777", category=category, price=200, cost=Decimal("99.99"), status="active")
    run = run_etl(mode)
    assert_warehouse_equals(compute_expected())
    fact = FactSales.objects.get(pk=line.id)
    assert (fact.cost_amount, fact.product_id) == (Decimal("99.99") * line.quantity, inferred.pk)
    assert fact.margin_amount == fact.net_amount - fact.cost_amount
    assert count_written_rows(run)["dim_product"] == {"inserted": 0, "updated": 1, "deleted": 0, "derived": 0}
    assert count_written_rows(run_etl(mode)) == {}


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_facts_follow_a_product_that_moves_to_another_category(small_shop: None, mode: str) -> None:
    run_etl()
    age_source_rows()
    product = Product.objects.get(id=OrderItem.objects.filter(order__status="paid").order_by("id")[0].product_id)
    target = Category.objects.exclude(id=product.category_id).order_by("-id")[0]
    Product.objects.filter(id=product.id).update(category=target)
    run = run_etl(mode)
    assert_warehouse_equals(compute_expected())
    moved = FactSales.objects.filter(product__product_id=product.id)
    assert {fact.category.category_id for fact in moved} == {target.id}
    assert sum(count_written_rows(run)["fact_sales"].values()) == moved.count() > 0
    assert set(moved.values_list("run_id", flat=True)) == {run.pk}
    assert count_written_rows(run_etl(mode)) == {}


# --- Orders that change ---


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_orders_leave_and_enter_the_fact(small_shop: None, mode: str) -> None:
    run_etl()
    age_source_rows()
    cancelled, shortened = find_sale(), find_sale(lines=2, after=find_sale().id)
    deleted = find_sale(after=shortened.id)
    entering = Order.objects.filter(status="new").order_by("id")[0]
    lines = {order.id: set(order.orderitem_set.values_list("id", flat=True)) for order in (cancelled, shortened, deleted, entering)}
    Order.objects.filter(id=cancelled.id).update(status="cancelled")
    Order.objects.filter(id=entering.id).update(status="paid")
    deleted_line = min(lines[shortened.id])
    OrderItem.objects.filter(id=deleted_line).delete()
    Order.objects.filter(id=shortened.id).update(total_amount=1)
    Payment.objects.create(order_id=deleted.id, method="card", status="refunded", amount=1)
    OrderItem.objects.filter(order_id=deleted.id).delete()
    Order.objects.filter(id=deleted.id).delete()
    run = run_etl(mode)
    assert_warehouse_equals(compute_expected())
    loaded = set(FactSales.objects.values_list("pk", flat=True))
    assert not loaded & (lines[cancelled.id] | lines[deleted.id] | {deleted_line})
    assert lines[entering.id] | lines[shortened.id] - {deleted_line} <= loaded
    assert count_written_rows(run)["fact_sales"]["deleted"] == len(lines[cancelled.id] | lines[deleted.id]) + 1
    assert count_written_rows(run)["fact_sales"]["inserted"] == len(lines[entering.id])


@pytest.mark.parametrize("table", ["orders", "order_items", "payments"])
def test_change_in_any_of_the_three_tables_reloads_the_order(small_shop: None, table: str) -> None:
    run_etl()
    age_source_rows()
    order = find_sale()
    if table == "orders":
        Order.objects.filter(id=order.id).update(status="shipped")
    elif table == "order_items":
        OrderItem.objects.filter(id=order.orderitem_set.order_by("id")[0].id).update(quantity=9)
    else:
        Payment.objects.create(order_id=order.id, method="cash", status="captured", amount=Decimal("0.01"), paid_at=datetime.now(UTC))
    run = run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert document(run)["sources"]["orders"]["read"] == 1
    assert document(run)["tables"]["fact_sales"]["read"] == order.orderitem_set.count()
    assert count_written_rows(run)["fact_sales"]["updated"] > 0


def test_vanished_dimension_rows_are_flagged_and_restored(small_shop: None) -> None:
    run_etl()
    keys = warehouse_rows.read_surrogate_keys()
    product = Product.objects.order_by("-id")[0]
    facts = set(FactSales.objects.values_list("pk", "cost_amount"))
    Product.objects.filter(id=product.id).delete()
    run = run_etl("incremental")
    row = DimProduct.objects.get(product_id=product.id)
    assert row.is_deleted and (row.name, row.run_id) == (product.name, run.pk)
    assert count_written_rows(run) == {"dim_product": {"inserted": 0, "updated": 0, "deleted": 1, "derived": 0}}
    assert count_written_rows(run_etl("full")) == {}
    assert set(FactSales.objects.values_list("pk", "cost_amount")) == facts
    product.save(force_insert=True)
    run_etl("full")
    assert not DimProduct.objects.get(product_id=product.id).is_deleted
    assert warehouse_rows.read_surrogate_keys() == keys
    assert_warehouse_equals(compute_expected())


def test_rejected_dimension_row_stays_as_last_loaded(small_shop: None) -> None:
    run_etl()
    product = Product.objects.order_by("id")[0]
    Product.objects.filter(id=product.id).update(status="sold out", name="Зіпсовано")
    run = run_etl("incremental")
    row = DimProduct.objects.get(product_id=product.id)
    assert (row.name, row.status, row.is_deleted) == (product.name, "active", False)
    assert count_written_rows(run) == {}
    assert [(row.table, row.row_id) for row in Reject.objects.filter(run=run)] == [("products", str(product.id))]


def test_dangling_references_get_inferred_members(small_shop: None) -> None:
    order = find_sale()
    for alias in ("orders_db", "auth_db"):
        with connections[alias].cursor() as cursor:
            cursor.execute("PRAGMA foreign_keys = OFF" if cursor.db.vendor == "sqlite" else "SET foreign_key_checks = 0")
    with connections["orders_db"].cursor() as cursor:
        cursor.execute(f"UPDATE orders SET customer_id = 9001, employee_id = 9002, region_id = 9003 WHERE id = {order.id}")
        cursor.execute("UPDATE customers SET region_id = 9004 WHERE id = 1")
    UserRole.objects.all().delete()
    run = run_etl()
    expected = compute_expected()
    assert_warehouse_equals(expected)
    assert {natural for rows in expected.dimensions.values() for natural, row in rows.items() if row["is_inferred"]} == {
        9001,
        9002,
        9003,
        9004,
    }
    warehouse_rows.assert_ledger_equals(expected, run)
    assert count_written_rows(run_etl("full")) == {}
    Customer.objects.create(id=9001, first_name="Нова", last_name="Людина", email="new@example.com", region_id=1)
    keys = warehouse_rows.read_surrogate_keys()
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert warehouse_rows.read_surrogate_keys() == keys
    for alias in ("orders_db", "auth_db"):
        connections[alias].close()


# --- Windows and the high-water mark ---


def read_latest_mark() -> datetime | None:
    return Load.objects.exclude(high_water_mark=None).order_by("-high_water_mark").values_list("high_water_mark", flat=True).first()


def test_the_first_incremental_run_is_a_full_one(small_shop: None) -> None:
    run = run_etl("incremental")
    assert (run.mode, run.window_start) == (Mode.FULL, None)
    assert_warehouse_equals(compute_expected())


def test_incremental_window_starts_at_the_mark_less_the_overlap(small_shop: None, settings: Any) -> None:
    settings.ETL_OVERLAP_MINUTES = 10
    first = run_etl()
    assert first.high_water_mark is not None
    second = run_etl("incremental")
    assert (second.mode, second.window_start, second.window_end) == (Mode.INCREMENTAL, first.high_water_mark - timedelta(minutes=10), None)
    assert second.high_water_mark is not None and second.high_water_mark > first.high_water_mark
    assert read_latest_mark() == second.high_water_mark


def test_a_window_of_shop_days_includes_its_last_day_in_kyiv(small_shop: None, settings: Any) -> None:
    settings.ETL_SWEEP_SECONDS = 0
    run_etl()
    age_source_rows()
    orders = list(Order.objects.filter(status="paid").order_by("id")[:4])
    Order.objects.filter(id__in=[order.id for order in orders]).update(status="shipped")
    # 2026-03-29 has 23 hours in Kyiv: from 22:00 UTC of the 28th to 21:00 UTC.
    stamps = ("2026-03-28 21:59:59.999999", "2026-03-28 22:00:00.000000", "2026-03-29 20:59:59.999999", "2026-03-29 21:00:00.000000")
    for order, instant in zip(orders, stamps, strict=True):
        set_updated_at(Order, order.id, instant)
    run_etl("incremental", Window.between(date(2026, 3, 29), date(2026, 3, 29)))
    shipped = set(FactSales.objects.filter(order_status="shipped").values_list("order_id", flat=True))
    assert shipped & {order.id for order in orders} == {orders[1].id, orders[2].id}


def test_last_days_include_today(small_shop: None, settings: Any) -> None:
    settings.ETL_SWEEP_SECONDS = 0
    run_etl()
    age_source_rows()
    window = Window.last_days(3)
    start, end = window.start, window.end
    assert start and end
    assert (
        (end - start) >= timedelta(days=3) - timedelta(hours=1)
        and start < datetime.now(UTC) - timedelta(days=2)
        and end > datetime.now(UTC)
    )
    inside, outside = Order.objects.filter(status="paid").order_by("id")[:2]
    Order.objects.filter(id__in=[inside.id, outside.id]).update(status="shipped")
    set_updated_at(Order, inside.id, start.strftime("%Y-%m-%d %H:%M:%S.%f"))
    set_updated_at(Order, outside.id, (start - timedelta(microseconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f"))
    run_etl("incremental", window)
    shipped = set(FactSales.objects.filter(order_status="shipped").values_list("order_id", flat=True))
    assert inside.id in shipped and outside.id not in shipped


def test_mark_moves_only_forward_and_without_a_gap(small_shop: None) -> None:
    first = run_etl().high_water_mark
    old = run_etl("incremental", Window.between(date(2026, 1, 1), date(2026, 1, 2)))
    assert old.high_water_mark == first == read_latest_mark(), "a window that ends before the mark leaves it"
    Load.objects.update(high_water_mark=datetime(2026, 2, 1, tzinfo=UTC))
    gap = run_etl("incremental", Window.between(date(2026, 2, 2), date(2026, 2, 20)))
    assert gap.high_water_mark == datetime(2026, 2, 1, tzinfo=UTC) == read_latest_mark(), (
        "changes between the mark and the window were not read"
    )
    joined = run_etl("incremental", Window.between(date(2026, 2, 1), date(2026, 2, 20)))
    assert joined.high_water_mark == datetime(2026, 2, 20, 22, tzinfo=UTC) == read_latest_mark()
    to_now = run_etl("incremental", Window.last_days(400))
    assert to_now.window_end is not None and to_now.high_water_mark is not None
    assert datetime.now(UTC) - timedelta(minutes=5) < to_now.high_water_mark <= datetime.now(UTC) < to_now.window_end
    assert read_latest_mark() == to_now.high_water_mark


def test_a_window_on_an_empty_warehouse_sets_no_mark(small_shop: None) -> None:
    run = run_etl("incremental", Window.last_days(1))
    assert run.high_water_mark is None and read_latest_mark() is None
    assert run_etl("incremental").mode == Mode.FULL
    assert_warehouse_equals(compute_expected())


# --- Dry run ---


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_dry_run_changes_nothing_but_its_own_row(small_shop: None, mode: str, loaded: bool) -> None:
    if loaded:
        run_etl()
        changes.apply(30, seed=3)
    faults.plant()
    ledger = [model.objects.count() for model in (Task, RowCount, Batch, Reject, CheckResult)]
    before, runs = warehouse_rows.read_warehouse(), Run.objects.count()
    run = run_etl(mode, dry_run=True)
    assert warehouse_rows.read_warehouse() == before
    assert [model.objects.count() for model in (Task, RowCount, Batch, Reject, CheckResult)] == ledger
    assert Run.objects.count() == runs + 1
    previewed = count_written_rows(run)
    assert previewed and run.result is not None and run.result["net_by_month"]
    assert count_written_rows(run_etl(mode)) == previewed, "the preview equals the run"
    assert_warehouse_equals(compute_expected())


# --- PostgreSQL ---


def test_views_and_grants_survive_the_swap_of_a_built_table(small_shop: None) -> None:
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("SQLite has neither grants nor the swap")
    execute("dwh", "CREATE VIEW net_of_sales AS SELECT SUM(net_amount) AS net FROM fact_sales")
    execute("dwh", "DROP ROLE IF EXISTS bi_viewer_of_tests")
    execute("dwh", "CREATE ROLE bi_viewer_of_tests")
    execute("dwh", "GRANT SELECT ON fact_sales TO bi_viewer_of_tests")
    try:
        for _ in range(2):
            run_etl()
            expected = sum((row["net_amount"] for row in warehouse_rows.read_facts().values()), Decimal(0))
            with connections["dwh"].cursor() as cursor:  # a run closes the connections before it
                cursor.execute("SET ROLE bi_viewer_of_tests")
                cursor.execute("SELECT SUM(net_amount) FROM fact_sales")
                assert cursor.fetchone() == (expected,)
                cursor.execute("RESET ROLE")
                cursor.execute("SELECT net FROM net_of_sales")
                assert cursor.fetchone() == (expected,)
                cursor.execute(
                    "SELECT count(*) FROM pg_indexes WHERE tablename = (SELECT relname FROM pg_class c, pg_inherits i "
                    "WHERE i.inhrelid = c.oid AND i.inhparent = 'fact_sales'::regclass)"
                )
                assert cursor.fetchone() == (4,)
            FactSales.objects.all().delete()
    finally:
        execute("dwh", "RESET ROLE")
        execute("dwh", "DROP VIEW net_of_sales")
        execute("dwh", "DROP OWNED BY bi_viewer_of_tests")
        execute("dwh", "DROP ROLE bi_viewer_of_tests")


# --- Largest amounts ---


def test_the_largest_amounts_are_exact_and_reload_unchanged(small_shop: None) -> None:
    """The largest DECIMAL(12,2), two billion pieces at one kopiyka each, and a refund above the captured amount."""
    first, second, third = OrderItem.objects.filter(order__status="paid").order_by("order_id", "id")[:3]
    OrderItem.objects.filter(id=first.id).update(quantity=1, unit_price=Decimal("9999999999.99"), discount=Decimal("0.01"))
    OrderItem.objects.filter(id=second.id).update(quantity=2**31 - 1, unit_price=Decimal("0.01"), discount=0)
    Product.objects.filter(id=second.product_id).update(cost=Decimal("4321.09"))
    Payment.objects.create(order_id=third.order_id, method="card", status="refunded", amount=Decimal("9999999999.99"))
    run_etl()
    assert_warehouse_equals(compute_expected())
    assert FactSales.objects.get(pk=second.id).cost_amount == Decimal("4321.09") * (2**31 - 1)
    assert min(FactSales.objects.filter(order_id=third.order_id).values_list("paid_amount", flat=True)) < 0
    assert count_written_rows(run_etl()) == {}
