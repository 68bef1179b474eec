"""Extraction: consistent snapshots, complete slices, change windows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from django.db import connections

from apps.demo import shop
from apps.etl.extract import snapshot
from apps.etl.extract.facts import extract_fact
from apps.etl.extract.snapshot import MySQLSnapshot, open_snapshot
from apps.etl.extract.survey import ROWS_PER_ORDER, find_touched, open_order_snapshots, survey_everything, survey_orders
from apps.etl.tables import FACT_SALES, ORDER_ITEMS, ORDERS, PRODUCTS, RAW_FINGERPRINTS
from apps.etl.window import ChangeWindow
from apps.orchestration.models import Reject
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Order, OrderItem
from apps.sources.payments.models import Payment
from techmarket.errors import EtlError, Misconfigured
from tests.etl import warehouse_rows
from tests.etl.warehouse_rows import execute

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LAST_CHANGE = "2026-01-15 12:00:00.000000"


@pytest.fixture
def unchanged_shop() -> None:
    """Generate a shop without changes since 2026-01-15, 12:00."""
    shop.generate(60, 7)
    for alias, table in (("orders_db", "orders"), ("orders_db", "order_items"), ("payments_db", "payments")):
        execute(alias, f"UPDATE {table} SET updated_at = '{LAST_CHANGE}'")


def is_sqlite() -> bool:
    return connections["orders_db"].vendor == "sqlite"


# --- Snapshots ---


def test_rows_written_after_a_snapshot_opened_are_not_seen(unchanged_shop: None) -> None:
    with open_snapshot("orders_db") as before:
        Order.objects.filter(id=1).update(status="cancelled")
        Order.objects.create(id=1000, customer_id=1, region_id=1, status="paid", order_date=datetime.now(UTC), total_amount=1)
        old = before.read(ORDERS)
        with open_snapshot("orders_db") as after:
            new = after.read(ORDERS)
        assert before.read(ORDERS).equals(old)
    assert (old.num_rows, new.num_rows) == (60, 61)
    [status] = [row["status"] for row in new.to_pylist() if int(row["id"]) == 1]
    assert status == b"cancelled" and b"cancelled" not in [row["status"] for row in old.to_pylist() if int(row["id"]) == 1]


def test_a_snapshot_cannot_write(unchanged_shop: None) -> None:
    with pytest.raises(EtlError), open_snapshot("orders_db") as opened:
        opened.read_integers("DELETE FROM order_items")
    assert OrderItem.objects.exists()


def test_clock_of_a_snapshot_is_that_of_its_server() -> None:
    before = datetime.now(UTC)
    with open_snapshot("orders_db") as opened:
        assert before - timedelta(seconds=2) <= opened.clock <= datetime.now(UTC) + timedelta(seconds=2)


def test_another_isolation_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if is_sqlite():
        pytest.skip("SQLite knows only snapshots")
    command = MySQLSnapshot.command
    monkeypatch.setattr(
        MySQLSnapshot, "command", lambda self, statement: command(self, statement.replace("REPEATABLE READ", "READ COMMITTED"))
    )
    with pytest.raises(Misconfigured, match="READ-COMMITTED"), open_snapshot("orders_db"):
        pass


def test_money_and_text_are_exact_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "ROWS_PER_FETCH", 3)
    category = Category.objects.create(name="Їжа")
    prices = ["9999999999.99", "0.01", "0.10", "1234567890.12", "0.29", "1.15", "100.00"]
    for number, price in enumerate(prices):
        Product.objects.create(name=f"ґ'\"\\{number}", sku=f"S{number}", category=category, price=price, cost=price, status="active")
    with open_snapshot("catalog_db") as opened:
        rows = opened.read(PRODUCTS).to_pylist()
    assert [row["name"].decode() for row in rows] == [f"ґ'\"\\{number}" for number in range(7)]
    amounts = [f"{float(row['price']):.2f}" if is_sqlite() else f"{row['price'] // 100}.{row['price'] % 100:02}" for row in rows]
    assert amounts == prices


# 90 000 orders of two lines, before and after these have exchanged quantities of one digit each.
EXCHANGES = """
WITH digits AS (SELECT 0 AS d{digits}),
orders AS (
    SELECT one.d AS one, other.d AS other, a.d * 100 + b.d * 10 + c.d AS n FROM digits one, digits other, digits a, digits b, digits c
    WHERE one.d <> other.d
),
sides AS (SELECT 0 AS line, 0 AS later UNION ALL SELECT 0, 1 UNION ALL SELECT 1, 0 UNION ALL SELECT 1, 1),
order_items AS (
    SELECT later, n * 20 + one * 2 + line AS id, n * 100 + one * 10 + other AS order_id, n * 7 + line * 3 AS product_id,
        CASE WHEN line = later THEN one ELSE other END AS quantity, n * (17 + other) + line * 19 AS unit_price, n AS discount
    FROM orders, sides
)
SELECT order_id FROM (
    SELECT order_id, SUM(CASE later WHEN 0 THEN {fingerprint} ELSE 0 END) AS before_it,
        SUM(CASE later WHEN 1 THEN {fingerprint} ELSE 0 END) AS after_it
    FROM order_items GROUP BY order_id
) AS sums WHERE before_it = after_it
"""


def test_lines_that_exchange_a_digit_change_the_sum() -> None:
    digits = "".join(f" UNION ALL SELECT {digit}" for digit in range(1, 10))
    with open_snapshot("orders_db") as opened:
        assert opened.read_integers(EXCHANGES.format(digits=digits, fingerprint=opened.fingerprint(ORDER_ITEMS))) == []


# --- Slices ---


def is_bounded(batches: dict[str, pa.Table], size: int) -> bool:
    """Return whether no source has more rows than a slice admits, or the slice is one order."""
    most = {"orders": size, "order_items": size * ROWS_PER_ORDER, "payments": size * ROWS_PER_ORDER}
    return batches["orders"].num_rows <= 1 or all(batches[name].num_rows <= rows for name, rows in most.items())


def add_lines(order_id: int, count: int) -> None:
    first = OrderItem.objects.count() + 1_000
    OrderItem.objects.bulk_create(
        OrderItem(id=first + number, order_id=order_id, product_id=first + number, quantity=1, unit_price=1, discount=0)
        for number in range(count)
    )


@pytest.mark.parametrize("large", [None, 1, 17, 60], ids=["alike", "first", "middle", "last"])
@pytest.mark.parametrize("size", [1, 7, 59, 60, 61, 1000])
def test_slices_cover_every_order_once_and_are_bounded(unchanged_shop: None, size: int, large: int | None) -> None:
    """Also by the rows of each source: one order with very many lines has a slice of its own."""
    if large:
        add_lines(large, 4 * size)
    slices = survey_everything(size).slices["fact_sales"]
    assert slices[0][0] is None is slices[-1][1] and len(slices) >= -(-60 // size)
    read: dict[str, list[int]] = {"orders": [], "order_items": [], "payments": []}
    for bounds in slices:
        batches = extract_fact(FACT_SALES, bounds)
        del batches[RAW_FINGERPRINTS]
        for table, batch in batches.items():
            read[table] += [int(value) for value in batch["id"].to_pylist()]
        assert is_bounded(batches, size)
    for table, model in (("orders", Order), ("order_items", OrderItem), ("payments", Payment)):
        assert sorted(read[table]) == list(model._default_manager.order_by("id").values_list("id", flat=True)), table


def test_slices_of_usual_orders_are_cut_by_their_number(unchanged_shop: None) -> None:
    assert survey_everything(20).slices["fact_sales"] == ((None, 21), (21, 41), (41, None))


@pytest.mark.parametrize("size", [1, 7, 30, 1000])
def test_slices_of_named_orders_are_bounded_likewise(unchanged_shop: None, size: int) -> None:
    add_lines(17, 4 * size)
    ids = [2, 3, 5, *range(11, 31), 47, 1_000_000]
    slices = survey_orders(ids, size).slices["fact_sales"]
    inside_of = [[each for each in ids if (low is None or each >= low) and (high is None or each < high)] for low, high in slices]
    assert [each for part in inside_of for each in part] == ids and all(inside_of)
    assert all(is_bounded(extract_fact(FACT_SALES, bounds, np.array(part)), size) for bounds, part in zip(slices, inside_of, strict=True))
    assert len(slices) < len(ids) or size == 1


def test_payments_that_name_no_order_are_in_the_first_slice(unchanged_shop: None) -> None:
    if not is_sqlite():
        pytest.skip("MySQL keeps integers alone in an integer column")
    execute("payments_db", "UPDATE payments SET order_id = 'abc' WHERE id IN (1, 5)")
    found = [extract_fact(FACT_SALES, bounds)["payments"]["id"].to_pylist() for bounds in survey_everything(7).slices["fact_sales"]]
    assert {b"1", b"5"} <= set(found[0])
    assert sum(len(each) for each in found) == Payment.objects.count()


def make_window(start: str, end: str | None = None) -> ChangeWindow:
    return ChangeWindow(datetime.fromisoformat(start).replace(tzinfo=UTC), datetime.fromisoformat(end).replace(tzinfo=UTC) if end else None)


def find_touched_ids(window: ChangeWindow) -> set[int]:
    with open_order_snapshots() as snapshots:
        return set(find_touched(snapshots, window))


def test_a_window_touches_orders_through_all_three_tables(unchanged_shop: None) -> None:
    order, line, payment = Order.objects.get(id=5), OrderItem.objects.filter(order_id=9)[0], Payment.objects.filter(order_id__gt=20)[0]
    later = "2026-02-01 10:00:00.000000"
    execute("orders_db", f"UPDATE orders SET updated_at = '{later}' WHERE id = {order.id}")
    execute("orders_db", f"UPDATE order_items SET updated_at = '{later}' WHERE id = {line.id}")
    execute("payments_db", f"UPDATE payments SET updated_at = '{later}' WHERE id = {payment.id}")
    expected = {5, 9, payment.order_id}
    assert find_touched_ids(make_window("2026-02-01 10:00:00")) == expected, "the start is inclusive"
    assert find_touched_ids(make_window("2026-02-01 10:00:00", "2026-02-01 10:00:00.000001")) == expected
    assert find_touched_ids(make_window("2026-02-01 09:00:00", "2026-02-01 10:00:00")) == set(), "the end is exclusive"
    assert find_touched_ids(make_window("2026-02-01 10:00:00.000001")) == set()
    assert find_touched_ids(make_window("2026-01-01 00:00:00")) == set(Order.objects.values_list("id", flat=True))


def test_whole_orders_are_read_also_those_that_do_not_exist(unchanged_shop: None) -> None:
    Payment.objects.create(order_id=4711, method="card", status="refunded", amount=1)
    batches = extract_fact(FACT_SALES, (None, None), np.array([9, 4711, 4712]))
    assert batches[RAW_FINGERPRINTS]["order_id"].to_pylist() == [9, 4711]
    assert [int(row) for row in batches["orders"]["id"].to_pylist()] == [9]
    assert len(batches["order_items"]) == OrderItem.objects.filter(order_id=9).count()
    assert len(batches["payments"]) == Payment.objects.filter(order_id__in=[9, 4711]).count()


@pytest.mark.parametrize("reference", ["'abc'", "1.5"])
def test_only_the_payment_with_an_invalid_order_id_is_rejected(unchanged_shop: None, reference: str) -> None:
    """SQLite only: `order_id` refers to another database, so no constraint keeps it a number."""
    if not is_sqlite():
        pytest.skip("MySQL's BIGINT takes nothing else")
    warehouse_rows.run_etl()
    execute("payments_db", f"UPDATE payments SET order_id = {reference} WHERE id = 1")
    run = warehouse_rows.run_etl("incremental")
    warehouse_rows.assert_balanced(run)
    assert list(Reject.objects.filter(run=run).values_list("table", "row_id", "rule")) == [("payments", "1", "not_whole")]
    assert warehouse_rows.count_written_rows(warehouse_rows.run_etl("full")) == {}
