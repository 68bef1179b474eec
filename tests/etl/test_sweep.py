"""Changes that `updated_at` does not show are found by content; none of these tests passes where a run believes `updated_at`."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.db import connections

from apps.demo import shop
from apps.etl import digest
from apps.etl.extract import sweep
from apps.etl.extract.snapshot import open_snapshot
from apps.etl.extract.sweep import Sweep
from apps.etl.slices import NO_ID, SEGMENT, inside
from apps.etl.sums import Sums, segment_bounds, segments_of, sum_by
from apps.etl.tables import ORDER_ITEMS
from apps.orchestration.models import Mode, Reject, Run, Stage, State, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.results import document
from apps.orchestration.window import Window
from apps.orchestration.worker.local import execute_run
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import DimCustomer, FactSales, Load, OrderFingerprint, Prepared, Segment
from techmarket.errors import MarkAhead, StalePlan
from tests.etl.warehouse_rows import (
    ZERO,
    age_source_rows,
    assert_balanced,
    assert_warehouse_equals,
    compute_expected,
    count_written_rows,
    execute,
    run_etl,
)

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def loaded_shop(settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 25
    shop.generate(60, 7)
    age_source_rows()
    run_etl()


def sold_orders() -> list[Order]:
    """Return orders that are paid, have several lines and a captured payment."""
    paid = Payment.objects.filter(status="captured").values_list("order_id", flat=True)
    orders = Order.objects.filter(status="paid", id__in=list(paid)).order_by("id")
    return [order for order in orders if order.orderitem_set.count() > 1]


def find_other_product(order: Order) -> Product:
    return Product.objects.exclude(pk__in=list(order.orderitem_set.values_list("product_id", flat=True)))[0]


def find_found(run: Run) -> dict[str, int]:
    return {way: count for way, count in run.found["orders"].items() if count}


# --- What updated_at does not show ---


def edit_line() -> None:
    line = sold_orders()[0].orderitem_set.order_by("id")[0]
    OrderItem.objects.filter(pk=line.pk).update(quantity=line.quantity + 1)


def edit_order() -> None:
    Order.objects.filter(pk=sold_orders()[0].pk).update(status="cancelled")


def edit_payment() -> None:
    Payment.objects.filter(order_id=sold_orders()[0].pk, status="captured").update(amount="0.01")


def move_line() -> None:
    one, other = sold_orders()[0], sold_orders()[-1]
    line = one.orderitem_set.exclude(product_id__in=other.orderitem_set.values("product_id"))[0]
    OrderItem.objects.filter(pk=line.pk).update(order_id=other.pk)


def move_payment() -> None:
    one, other = sold_orders()[0], sold_orders()[-1]
    Payment.objects.filter(pk=Payment.objects.filter(order_id=one.pk, status="captured")[0].pk).update(order_id=other.pk)


def delete_line() -> None:
    OrderItem.objects.filter(pk=sold_orders()[0].orderitem_set.order_by("id")[0].pk).delete()


def delete_payment() -> None:
    Payment.objects.filter(order_id=sold_orders()[0].pk).delete()


def delete_order() -> None:
    order = sold_orders()[0].pk
    Payment.objects.filter(order_id=order).delete()
    OrderItem.objects.filter(order_id=order).delete()
    Order.objects.filter(pk=order).delete()


def insert_line_long_ago() -> None:
    """A transaction that began before the overlap and was committed after the run."""
    order = sold_orders()[0]
    product = find_other_product(order)
    OrderItem.objects.create(order=order, product_id=product.pk, quantity=1, unit_price="10.00", discount="0.00")


def restore_old_key() -> None:
    """An id in a gap, as from a restored table."""
    order = sold_orders()[0]
    Order.objects.create(
        id=5 * SEGMENT, customer_id=order.customer_id, region_id=1, status="paid", order_date=order.order_date, total_amount="5.00"
    )
    OrderItem.objects.create(order_id=5 * SEGMENT, product_id=1, quantity=1, unit_price="5.00", discount="0.00")


def swap_products() -> None:
    """The sums of ids, quantities and amounts of the order stay what they are."""
    one, other = sold_orders()[0].orderitem_set.order_by("id")[:2]
    free = find_other_product(sold_orders()[0]).pk
    for line, product in ((one, free), (other, one.product_id), (one, other.product_id)):
        OrderItem.objects.filter(pk=line.pk).update(product_id=product)


CHANGES = [
    edit_line,
    edit_order,
    edit_payment,
    move_line,
    move_payment,
    delete_line,
    delete_payment,
    delete_order,
    insert_line_long_ago,
    restore_old_key,
    swap_products,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_change_is_found_though_no_updated_at_shows_it(loaded_shop: None, change: Callable[[], None], mode: str) -> None:
    change()
    age_source_rows()
    run = run_etl(mode)
    assert_warehouse_equals(compute_expected())
    assert set(find_found(run)) == {"sweep"} and 1 <= run.found["orders"]["sweep"] <= 2
    assert_balanced(run)
    again = run_etl("full", reread=True)
    assert count_written_rows(again) == {}, "the sweep found all of it"


def test_without_a_sweep_only_a_full_run_finds_it(loaded_shop: None, settings: Any) -> None:
    settings.ETL_SWEEP_SECONDS = 0
    edit_line()
    age_source_rows()
    assert count_written_rows(run_etl("incremental")) == {}
    assert count_written_rows(run_etl("full"))["fact_sales"]["updated"] >= 1
    assert_warehouse_equals(compute_expected())


def test_window_and_sweep_name_each_order_once(loaded_shop: None) -> None:
    edit_payment()
    age_source_rows()
    edit_line()
    assert find_found(run_etl("incremental")) == {"window": 1}, "the same order"
    move_line()
    age_source_rows()
    assert find_found(run_etl("incremental")) == {"sweep": 2}
    assert_warehouse_equals(compute_expected())


def test_a_full_run_reads_only_what_differs(loaded_shop: None) -> None:
    run = run_etl("full")
    assert not run.reads_everything and count_written_rows(run) == {}
    assert not run.row_counts.filter(table="fact_sales", read__gt=0).exists()
    delete_line()
    age_source_rows()
    read = sum(run_etl("full").row_counts.filter(table="fact_sales", task__stage="transform").values_list("read", flat=True))
    assert read == sold_orders()[0].orderitem_set.count()
    assert run_etl("full", reread=True).found["everything"] == "requested"


@pytest.mark.parametrize(
    ("table", "alias", "statement"),
    [
        ("dim_customer", "orders_db", "UPDATE customers SET last_name = 'Ґалаґан' WHERE id = 1"),
        ("dim_customer", "orders_db", "UPDATE customers SET first_name = 'a,b', last_name = 'c' WHERE id = 1"),
        ("dim_product", "catalog_db", "UPDATE products SET price = price + 0.01 WHERE id = 1"),
        ("dim_customer", "auth_db", "UPDATE auth_users SET status = 'blocked' WHERE customer_id = 1"),
        ("dim_employee", "auth_db", "DELETE FROM user_roles WHERE user_id IN (SELECT id FROM auth_users WHERE employee_id = 1)"),
    ],
)
def test_dimension_row_changed_though_its_updated_at_was_not(loaded_shop: None, table: str, alias: str, statement: str) -> None:
    execute(alias, statement)
    age_source_rows()
    assert set(count_written_rows(run_etl("incremental"))) == {table}
    assert_warehouse_equals(compute_expected())
    assert count_written_rows(run_etl("incremental")) == {}


def test_fingerprint_tells_where_a_comma_stands(loaded_shop: None) -> None:
    Customer.objects.filter(pk=1).update(first_name="a", last_name="b,c")
    age_source_rows()
    run_etl("incremental")
    Customer.objects.filter(pk=1).update(first_name="a,b", last_name="c")
    age_source_rows()
    run_etl("incremental")
    assert (DimCustomer.objects.get(customer_id=1).first_name, DimCustomer.objects.get(customer_id=1).last_name) == ("a,b", "c")


# --- Rows that name no order ---


def test_payments_without_an_order_are_rejected_in_whatever_slice(loaded_shop: None) -> None:
    """No slice of ids holds them: they belong to the first. They come with an incremental run, too, and leave with one."""
    mysql = connections["payments_db"].vendor == "mysql"
    nothing = "NULL" if mysql else "'abc'"
    if mysql:
        execute("payments_db", "ALTER TABLE payments MODIFY order_id BIGINT NULL")
    try:
        pk = Payment.objects.latest("id").pk
        order = Payment.objects.get(pk=pk).order_id
        execute("payments_db", f"UPDATE payments SET order_id = {nothing} WHERE id = {pk}")
        for mode, reread in (("incremental", False), ("full", True)):
            run = run_etl(mode, reread=reread)
            assert list(Reject.objects.filter(run=run).values_list("table", "row_id")) == [("payments", str(pk))]
        assert OrderFingerprint.objects.filter(pk=NO_ID).exists()
        execute("payments_db", f"UPDATE payments SET order_id = {order} WHERE id = {pk}")
        age_source_rows()
        run_etl("incremental")
        assert not OrderFingerprint.objects.filter(pk=NO_ID).exists()
        assert_warehouse_equals(compute_expected())
    finally:
        if mysql:
            execute("payments_db", "ALTER TABLE payments MODIFY order_id BIGINT NOT NULL")


# --- Orders dated in the future ---


def test_order_is_looked_at_again_when_its_day_comes(loaded_shop: None, settings: Any) -> None:
    settings.ETL_SWEEP_SECONDS = 0
    order = sold_orders()[0]
    comes = datetime.now(UTC) + timedelta(minutes=5, seconds=4)
    Order.objects.filter(pk=order.pk).update(order_date=comes)
    run_etl("incremental")
    age_source_rows()
    assert not FactSales.objects.filter(order_id=order.pk).exists()
    assert OrderFingerprint.objects.get(pk=order.pk).look_again_at == comes - timedelta(minutes=5)
    while datetime.now(UTC) < comes - timedelta(minutes=5):
        time.sleep(0.1)
    run = run_etl("incremental")
    assert find_found(run) == {"due": 1} and FactSales.objects.filter(order_id=order.pk).exists()
    assert_warehouse_equals(compute_expected())
    assert find_found(run_etl("incremental")) == {}


# --- The star's own rows ---


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fact_sales SET net_amount = net_amount + 0.01, gross_amount = gross_amount + 0.01 WHERE order_item_id = {line}",
        "UPDATE fact_sales SET employee_key = -1 WHERE order_item_id = {line}",
        "UPDATE fact_sales SET order_id = 99999 WHERE order_item_id = {line}",
        "DELETE FROM fact_sales WHERE order_item_id = {line}",
        "DELETE FROM fact_sales",
    ],
)
def test_a_full_run_mends_what_another_hand_has_changed(loaded_shop: None, statement: str) -> None:
    execute("dwh", statement.format(line=FactSales.objects.earliest("pk").pk))
    run = run_etl("full")
    assert run.reads_everything or set(find_found(run)) == {"star"}
    assert_warehouse_equals(compute_expected())
    again = run_etl("full")
    assert count_written_rows(again) == {} and find_found(again) == {}


def test_an_incremental_run_over_an_emptied_fact_hides_nothing_from_the_next_full_one(loaded_shop: None) -> None:
    execute("dwh", "DELETE FROM fact_sales")
    edit_line()
    run_etl("incremental")
    run_etl("full")
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("dim_customer", "UPDATE dim_customer SET last_name = 'Ґалаґан' WHERE customer_id = 1"),
        ("dim_customer", "UPDATE dim_customer SET is_deleted = TRUE WHERE customer_id = 1"),
        ("dim_product", "UPDATE dim_product SET price = price + 0.01 WHERE product_id = 1"),
        ("dim_employee", "UPDATE dim_employee SET region_key = -1 WHERE employee_id = 1"),
    ],
)
def test_a_full_run_reads_the_dimension_that_another_hand_has_changed(loaded_shop: None, table: str, statement: str) -> None:
    execute("dwh", statement)
    assert count_written_rows(run_etl("incremental")) == {}
    assert count_written_rows(run_etl("full")) == {table: ZERO | {"updated": 1}}
    assert_warehouse_equals(compute_expected())
    assert all(count.read == 0 for count in run_etl("full").row_counts.filter(table__startswith="dim_"))


def test_dimension_with_members_inferred_since_it_was_loaded_is_read_again(loaded_shop: None) -> None:
    """A load that infers members does not say what the rest of the dimension was; the next full run settles it."""
    line = sold_orders()[0].orderitem_set.order_by("id")[0]
    OrderItem.objects.filter(pk=line.pk).update(product_id=777)
    run_etl("incremental")
    assert set(read_dimensions(run_etl("full"))) == {"dim_product"}
    assert read_dimensions(run_etl("full")) == []
    assert set(read_dimensions(run_etl("full", reread=True))) == {
        "dim_region",
        "dim_category",
        "dim_product",
        "dim_customer",
        "dim_employee",
    }


def read_dimensions(run: Run) -> list[str]:
    counts = run.row_counts.filter(table__startswith="dim_", task__stage="transform", read__gt=0).exclude(table="dim_date")
    return list(counts.values_list("table", flat=True).distinct())


def test_segments_follow_what_runs_write(loaded_shop: None) -> None:
    """Whatever a run writes, deletes or derives, its segments' sums follow; else a full run would read them again."""
    for change in CHANGES:
        change()
        execute("catalog_db", "UPDATE products SET category_id = category_id % 7 + 1 WHERE id < 20")
        run_etl("incremental")
        assert "star" not in find_found(run_etl("full")), change.__name__
    assert_warehouse_equals(compute_expected())


def test_line_that_moved_from_an_order_that_was_not_read_is_one_line(loaded_shop: None, settings: Any) -> None:
    """Without a sweep only its new order is read: the fact has the line elsewhere, where the run replaces nothing."""
    settings.ETL_SWEEP_SECONDS = 0
    move_line()
    age_source_rows()
    Order.objects.filter(pk=sold_orders()[-1].pk).update(updated_at=datetime.now(UTC))
    run = run_etl("incremental")
    assert find_found(run) == {"window": 1}
    assert {change["cause"] for change in document(run)["net_by_cause"]} == {"changed"}
    assert "star" not in find_found(run_etl("full"))
    assert_warehouse_equals(compute_expected())


def test_mended_row_is_not_suspected_again(loaded_shop: None) -> None:
    """An incremental run that replaces a row changed by hand knows only its own part; the next full run settles the segment."""
    order = sold_orders()[0]
    execute("dwh", f"UPDATE fact_sales SET region_key = -1 WHERE order_id = {order.pk}")
    Order.objects.filter(pk=order.pk).update(status="shipped")
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    run_etl("full")
    assert "star" not in find_found(run_etl("full"))


# --- Budget and proof ---


def test_newest_orders_are_compared_first_then_those_with_the_oldest_proof(loaded_shop: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SEGMENTS_PER_STEP", 2)
    Segment.objects.all().delete()
    days = {0: 5, 1: 4, 2: 3, 3: None, 4: 1, 5: 6, 6: 7}
    for segment, day in days.items():
        Segment.objects.create(segment=segment, proven_at=day and datetime(2026, 1, day, tzinfo=UTC))
    steps = sweep.in_warehouse(sweep.find_steps)
    first = [segments_of([low or 0])[0] for low, _ in steps]
    assert first == [5, 3, 1, 0], "5 and 6 are the newest; 3 was never proven; 1 to 2 are older than 0"
    ids = np.array([NO_ID, -5000, 0, 700, 5000, 2**62])
    assert sum(inside(ids, bounds).astype(int) for bounds in steps).tolist() == [1] * len(ids), "each id in exactly one step"


def test_sweep_stops_when_its_time_is_up(loaded_shop: None, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(sweep, "SEGMENTS_PER_STEP", 1)
    Segment.objects.create(segment=3, proven_at=None)
    ticks = iter(range(0, 1000, 7))
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    settings.ETL_SWEEP_SECONDS = 5
    assert len(run_etl("incremental").found["proven"]) == 1
    settings.ETL_SWEEP_SECONDS = 10
    assert len(run_etl("incremental").found["proven"]) == 2


def test_proof_has_the_time_at_which_the_sources_were_compared(loaded_shop: None) -> None:
    before = Segment.objects.get(segment=0).proven_at
    run = run_etl("incremental")
    proven = Segment.objects.get(segment=0).proven_at
    assert before is not None and proven == datetime.fromisoformat(run.found["as_of"]) > before


@pytest.mark.parametrize("size", [1, 3])
def test_differences_are_found_however_many_segments_have_some(monkeypatch: pytest.MonkeyPatch, loaded_shop: None, size: int) -> None:
    """By ranges of segments, or order by order where most segments differ; known orders subtracted, or too many for that."""
    monkeypatch.setattr(sweep, "MANY", 0.0 if size == 1 else 1.0)
    monkeypatch.setattr(sweep, "MOST_KNOWN", 0 if size == 1 else 50_000)
    restore_old_key()
    edit_line()
    age_source_rows()
    move_payment()
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())


# --- The mark ---


def set_mark(ahead: timedelta) -> datetime:
    mark = datetime.now(UTC) + ahead
    Load.objects.update(high_water_mark=mark)
    return mark


def test_mark_ahead_of_the_clock_is_refused_and_replaced_by_a_full_run(loaded_shop: None) -> None:
    set_mark(timedelta(hours=3))
    edit_line()
    with pytest.raises(MarkAhead, match=r"ahead of the sources' clock.*--mode full"):
        run_etl("incremental")
    assert Run.objects.latest("id").state == State.FAILED
    full = run_etl("full")
    assert full.high_water_mark is not None and full.high_water_mark <= datetime.now(UTC)
    assert_warehouse_equals(compute_expected())
    edit_order()
    assert find_found(run_etl("incremental")) == {"window": 1}


def test_mark_ahead_is_refused_before_the_sweep(loaded_shop: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Sweep, "for_seconds")
    set_mark(timedelta(hours=3))
    with pytest.raises(MarkAhead):
        run_etl("incremental")


def test_window_over_most_of_the_shop_is_read_as_a_whole(loaded_shop: None) -> None:
    """As right after the first load of a shop that is all new. A window that somebody wants is never widened."""
    before = Load.objects.latest("sequence").high_water_mark
    OrderItem.objects.filter(order_id=30).update(quantity=7)
    Order.objects.update(updated_at=datetime.now(UTC))
    run = run_etl("incremental")
    assert (run.mode, run.found["everything"]) == (Mode.INCREMENTAL, "most")
    assert before and run.high_water_mark and run.high_water_mark > before and run.window_start
    assert_warehouse_equals(compute_expected())
    wanted = run_etl("incremental", Window(datetime(2026, 2, 1, tzinfo=UTC)))
    assert find_found(wanted) == {"window": 60}


def test_window_that_starts_within_the_overlap_leaves_the_mark(loaded_shop: None, settings: Any) -> None:
    """Changes that were committed late lie in the overlap before the mark: who has not read it must not move the mark."""
    settings.ETL_OVERLAP_MINUTES = 10
    window = Window.last_days(2)
    assert window.start
    Load.objects.update(high_water_mark=window.start + timedelta(minutes=5))
    assert run_etl("incremental", window).high_water_mark == window.start + timedelta(minutes=5)
    Load.objects.update(high_water_mark=window.start + timedelta(minutes=10))
    moved = run_etl("incremental", window).high_water_mark
    assert moved is not None and moved > window.start + timedelta(minutes=10)


STALE = "Run 4711 was published to this warehouse since this run was planned"


def publish_elsewhere(times: int) -> Callable[[Any, int, bool], None]:
    """Return a listener by which another control database publishes after the first plans of a run."""
    latest, uuids = Load.objects.latest("sequence"), iter(range(1, times + 1))

    def listen(task: Any, rows: int, ended: bool) -> None:
        if task.stage == "plan" and ended and (number := next(uuids, 0)):
            fields = {field.attname: getattr(latest, field.attname) for field in Load._meta.concrete_fields}
            changed = {"run_uuid": UUID(int=number), "sequence": latest.sequence + number, "run_id": 4711, "high_water_mark": None}
            Load.objects.create(**fields | changed)

    return listen


def test_two_control_databases_cannot_overwrite_each_other(loaded_shop: None) -> None:
    """The other one publishes between our plan and our load: what was prepared is stale, so the run is planned again."""
    edit_line()
    run = start_run(Mode.FULL, Trigger.CLI, "test")
    execute_run(run, publish_elsewhere(1))
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED and run.based_on == Load.objects.latest("sequence").sequence - 1
    plan = run.tasks.get(stage=Stage.PLAN)
    assert plan.attempt == 2 and [STALE in str(attempt.cause) for attempt in plan.attempts.all()] == [True]
    assert not run.tasks.exclude(state=State.SUCCEEDED).exists() and run.tasks.filter(stage=Stage.LOAD).count() == 1
    assert_warehouse_equals(compute_expected())
    assert not Prepared.objects.exists()


def test_run_gives_up_where_others_publish_again_and_again(loaded_shop: None, settings: Any) -> None:
    settings.ETL_ATTEMPTS = 2
    edit_line()
    before = list(FactSales.objects.order_by("pk").values())
    run = start_run(Mode.INCREMENTAL, Trigger.CLI, "test")
    with pytest.raises(StalePlan, match=STALE):
        execute_run(run, publish_elsewhere(9))
    assert list(FactSales.objects.order_by("pk").values()) == before and Load.objects.count() == 3
    run_etl("full")
    assert_warehouse_equals(compute_expected())


def test_run_that_is_planned_again_derives_its_window_again(loaded_shop: None) -> None:
    run = start_run(Mode.INCREMENTAL, Trigger.CLI, "test")
    edit_line()
    execute_run(run, publish_elsewhere(1))
    run.refresh_from_db()
    assert (run.state, run.mode, run.window_start) == (State.SUCCEEDED, Mode.FULL, None), "the other load has no mark"
    assert_warehouse_equals(compute_expected())


# --- Rules ---


def test_other_rules_read_everything_again(loaded_shop: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_etl("incremental").mode == Mode.INCREMENTAL
    settings.SHOP_TIME_ZONE = "Asia/Tokyo"
    run = run_etl("incremental")
    assert (run.mode, run.found["everything"]) == (Mode.FULL, "rules")
    assert run_etl("incremental").mode == Mode.INCREMENTAL


def test_digest_follows_code_and_not_comments(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "transform"
    folder.mkdir()
    (tmp_path / "money.py").write_text("X = 1\n")
    monkeypatch.setattr(digest, "FOLDER", tmp_path)
    compute = digest.rules_digest.__wrapped__
    texts = ["LEAST = 1\n", "LEAST = 1  # kopiyka\n", "LEAST = 2\n"]
    found = []
    for text in texts:
        (folder / "sales.py").write_text(text)
        found.append(compute("Europe/Kyiv"))
    assert found[0] == found[1] != found[2] and compute("Asia/Tokyo") != found[2]


# --- Sums ---


def test_sums_are_those_of_the_database(loaded_shop: None) -> None:
    """Segments are divided alike in numpy, by the source and by the warehouse, also for ids below zero."""
    ids = [NO_ID, -2049, -2048, -1024, -1023, -1, 0, 1, 1023, 1024, 2**40]
    for alias, divide in (("orders_db", "DIV"), ("dwh", "/")):
        with connections[alias].cursor() as cursor:
            slash = divide if cursor.db.vendor == "mysql" else "/"
            cursor.execute("SELECT " + ", ".join(f"({each}) {slash} {SEGMENT}" for each in ids))
            assert [int(each) for each in cursor.fetchone()] == segments_of(ids).tolist()
    for each in ids:
        low, high = segment_bounds(int(segments_of([each])[0]))
        assert (low is None or low <= each) and high is not None and each < high
    with open_snapshot("orders_db") as orders:
        by_order = orders.sum_fingerprints(ORDER_ITEMS, False)
        by_segment = orders.sum_fingerprints(ORDER_ITEMS, True)
    assert [part.tolist() for part in by_order.by_segment()] == [part.tolist() for part in by_segment]


def test_sums_are_exact_and_differ_where_a_key_is_missing() -> None:
    large = 2**61 + 1
    sums = sum_by([3, 1, 3], [large, 5, 1])
    assert (sums.keys.tolist(), sums.values.tolist()) == ([1, 3], [5, large + 1])
    assert sums.differing(sum_by([1], [5])).tolist() == [3]
    assert sums.minus(sums).values.tolist() == [0, 0]
    assert sum_by([], []).differing(Sums(np.array([2]), np.array([9]))).tolist() == [2]
