"""Facts prepared where no reader looks, and published by attaching partitions or merging what differs. PostgreSQL alone."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from apps.demo import changes, shop
from apps.etl.load import prepare as preparing
from apps.etl.load import publish as publishing
from apps.orchestration.models import Attempt, Run, Stage, Task
from apps.orchestration.prepared import drop_all_prepared, drop_leftovers
from apps.orchestration.requests import resume_run
from apps.orchestration.worker import stages
from apps.orchestration.worker.local import execute_run
from apps.sources.orders.models import Order, OrderItem
from apps.warehouse.models import DimCustomer, DimProduct, FactSales, Prepared, ReservedKey
from techmarket.errors import ChecksRefused, EtlError, NoSpace, PreparedLost
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, count_written_rows, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture(autouse=True)
def sliced_shop(settings: Any) -> None:
    """300 orders in slices of 20, so that several ranges of seven slices are prepared."""
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("SQLite prepares nothing: it admits one writer at a time")
    settings.ETL_BATCH_ORDERS = 20
    shop.generate(300, 42)


def query(statement: str) -> list[Any]:
    with connections["dwh"].cursor() as cursor:
        cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


def leaves() -> list[str]:
    """Return the partitions of ranges, without the one for what no other has a range for."""
    found = query("SELECT relid::regclass::text FROM pg_partition_tree('fact_sales') WHERE isleaf ORDER BY 1")
    return [leaf for leaf in found if not leaf.endswith("_rest")]


def other_tables() -> list[str]:
    """Return the tables of the warehouse that are neither of a model nor a partition of the fact."""
    return query(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT relispartition AND relname ~ '[0-9]' ORDER BY 1"
    )


def before(monkeypatch: pytest.MonkeyPatch, stage: Stage, action: Callable[[Task], None], times: int = 1) -> None:
    """Call `action` before the first `times` attempts at tasks of the stage."""
    execute_stage, calls = stages.STAGES[stage], []

    def act_first(task: Task, report: Any) -> Any:
        calls.append(task)
        if len(calls) <= times:
            action(task)
        return execute_stage(task, report)

    monkeypatch.setitem(stages.STAGES, stage, act_first)


def test_first_load_attaches_partitions_and_leaves_nothing_else() -> None:
    run = run_etl()
    assert run.tasks.filter(stage=Stage.PREPARE).count() == len(leaves()) == 3
    assert_warehouse_equals(compute_expected())
    assert not Prepared.objects.exists() and not ReservedKey.objects.exists() and other_tables() == []
    changes.apply(40, 7)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert not Prepared.objects.exists() and not ReservedKey.objects.exists() and other_tables() == []
    assert count_written_rows(run_etl(reread=True)) == {}


def test_partitions_have_what_the_fact_has() -> None:
    run_etl()
    for leaf in leaves():
        assert len(query(f"SELECT indexname FROM pg_indexes WHERE tablename = '{leaf}'")) == 4
        constraints = f"SELECT contype FROM pg_constraint WHERE conrelid = '{leaf}'::regclass AND convalidated"
        assert query(f"{constraints} AND contype = 'f'") == ["f"] * 6
        assert query(f"SELECT reltuples > 0 FROM pg_class WHERE oid = '{leaf}'::regclass") == [True]
    assert query("SELECT relname FROM pg_class WHERE oid = 'etl_order_due'::regclass") == ["etl_order_due"]
    assert query("SELECT conname FROM pg_constraint WHERE conrelid = 'etl_order'::regclass AND contype = 'p'") == ["etl_order_pkey"]


def test_changed_rows_stay_on_their_pages() -> None:
    """Then no index gets a new entry. PostgreSQL tells a moment after the session that wrote."""
    run_etl()
    OrderItem.objects.filter(pk=FactSales.objects.order_by("order_id")[0].pk).update(quantity=7)
    run_etl("incremental")
    updates = f"SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE n_tup_upd > 0 AND relname = ANY(ARRAY{leaves()})"
    until = time.monotonic() + 10
    while not (elsewhere := query(updates)) and time.monotonic() < until:
        time.sleep(0.1)
    assert elsewhere == [0]


def test_query_by_day_reads_the_partitions_of_these_days() -> None:
    run_etl()
    first, latest = query("SELECT MIN(date_key) FROM fact_sales"), query("SELECT MAX(date_key) FROM fact_sales")
    plan = "\n".join(query(f"EXPLAIN SELECT net_amount FROM kpi_orders WHERE date_key BETWEEN {first[0]} AND {first[0] + 3}"))
    assert 0 < sum(f"on {leaf} " in plan for leaf in leaves()) < len(leaves()), plan
    every = "\n".join(query(f"EXPLAIN SELECT net_amount FROM kpi_orders WHERE date_key BETWEEN {first[0]} AND {latest[0]}"))
    assert all(f"on {leaf} " in every for leaf in leaves()), every


def test_order_that_moves_to_another_day_is_found_there() -> None:
    run_etl()
    order = Order.objects.get(pk=FactSales.objects.order_by("order_id")[0].order_id)
    latest = Order.objects.order_by("-order_date")[0].order_date
    Order.objects.filter(pk=order.pk).update(order_date=latest)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    day = FactSales.objects.filter(order_id=order.pk)[0].date_id
    found = query(f"SELECT DISTINCT order_id FROM fact_sales WHERE date_key = {day}")
    assert order.pk in found


@pytest.fixture
def eager_autovacuum() -> Iterator[None]:
    """Let autovacuum look at the tables every second instead of every minute."""
    if not query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0]:
        pytest.skip("needs a superuser")
    execute("dwh", "ALTER SYSTEM SET autovacuum_naptime = '1s'")
    execute("dwh", "SELECT pg_reload_conf()")
    yield
    execute("dwh", "ALTER SYSTEM RESET autovacuum_naptime")
    execute("dwh", "SELECT pg_reload_conf()")


def test_autovacuum_of_a_partition_gives_way_to_its_attachment(monkeypatch: pytest.MonkeyPatch, eager_autovacuum: None) -> None:
    def vacuum_slowly(_task: Task) -> None:
        relation = Prepared.objects.filter(is_partition=True)[0].relation
        often = "autovacuum_vacuum_insert_threshold = 0, autovacuum_vacuum_insert_scale_factor = 0"
        slowly = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
        execute("dwh", f"ALTER TABLE {relation} SET ({often}, {slowly})")
        until = time.monotonic() + 30
        while not query(f"SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = '{relation}'::regclass"):
            assert time.monotonic() < until, "autovacuum did not come"
            time.sleep(0.05)

    before(monkeypatch, Stage.LOAD, vacuum_slowly)
    run_etl()
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize("statement", ["ALTER TABLE {parent} DETACH PARTITION {partition}", "DROP TABLE {partition}"])
@pytest.mark.parametrize("whole", [False, True], ids=["range", "root"])
def test_partition_that_another_hand_took_away_is_written_again(statement: str, whole: bool) -> None:
    run_etl()
    root = query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass")[0]
    parent, partition = ("fact_sales", root) if whole else (root, leaves()[1])
    execute("dwh", statement.format(parent=parent, partition=partition))
    run_etl("full")
    assert_warehouse_equals(compute_expected())


def test_table_dropped_by_hand_is_prepared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, Stage.LOAD, lambda task: execute("dwh", f"DROP TABLE {Prepared.objects.order_by('pk')[1].relation}"))
    run = run_etl()
    assert_warehouse_equals(compute_expected())
    (attempt,) = Attempt.objects.filter(run=run)
    assert str(attempt.cause).startswith("Tables that were prepared are gone (prepare fact_sales [")


def test_tables_that_vanish_again_and_again_fail_the_run(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.ETL_RETRY_SECONDS = 0
    before(monkeypatch, Stage.LOAD, lambda task: execute("dwh", f"DROP TABLE {Prepared.objects.order_by('pk')[0].relation}"), times=9)
    with pytest.raises(PreparedLost, match=r"Nothing was published\. Run it again"):
        run_etl()
    monkeypatch.undo()
    run_etl()
    assert_warehouse_equals(compute_expected())


def test_table_dropped_by_hand_while_it_is_published_is_prepared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lock_warehouse, relations = publishing.lock_warehouse, list[str]()

    def drop_first(cursor: Any) -> None:
        if not relations:
            relations.extend(Prepared.objects.filter(is_partition=True).values_list("relation", flat=True))
            run_elsewhere(lambda: execute("dwh", f"DROP TABLE {relations[0]}"))
        lock_warehouse(cursor)

    monkeypatch.setattr(publishing, "lock_warehouse", drop_first)
    run = run_etl()
    assert_warehouse_equals(compute_expected())
    (attempt,) = Attempt.objects.filter(run=run)
    assert str(attempt.cause).startswith("Tables that were prepared are gone (prepare fact_sales [")


def test_table_attached_by_hand_is_prepared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def attach(_task: Task) -> None:
        (old,) = query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass")
        relation = Prepared.objects.order_by("pk")[0].relation
        execute("dwh", f"ALTER TABLE fact_sales DETACH PARTITION {old}")
        execute("dwh", f"DROP TABLE {old}")
        execute("dwh", f"ALTER TABLE fact_sales ATTACH PARTITION {relation} DEFAULT")

    run_etl()
    execute("dwh", "DELETE FROM fact_sales")
    before(monkeypatch, Stage.LOAD, attach)
    run_etl("full")
    assert_warehouse_equals(compute_expected())
    assert not Prepared.objects.exists() and other_tables() == []


def test_cleaning_up_spares_what_is_published_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ledger does not know the run and takes what it has prepared for that of a dead one."""
    apply_brakes, cleaners = publishing.apply_brakes, list[threading.Thread]()

    def clean_up_meanwhile(*arguments: Any) -> Any:
        cleaners.append(run_elsewhere(drop_all_prepared))
        return apply_brakes(*arguments)

    def run_and_compare(mode: str) -> None:
        run_etl(mode)
        cleaners[-1].join(30)
        assert_warehouse_equals(compute_expected())

    monkeypatch.setattr(publishing, "apply_brakes", clean_up_meanwhile)
    run_and_compare("full")
    changes.apply(40, 7)
    run_and_compare("incremental")
    assert not Prepared.objects.exists() and other_tables() == []


@pytest.mark.parametrize("moment", [Stage.PREPARE, Stage.LOAD])
def test_run_prepares_again_what_another_ledger_has_cleaned_up(monkeypatch: pytest.MonkeyPatch, moment: Stage) -> None:
    before(monkeypatch, moment, lambda task: drop_all_prepared(), times=2)
    run_etl()
    assert_warehouse_equals(compute_expected())


def run_elsewhere(action: Callable[[], object]) -> threading.Thread:
    """Call `action` in a session of its own, and wait some seconds for its end."""

    def act() -> None:
        try:
            action()
        finally:
            connections.close_all()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(3)
    return thread


def test_changes_taken_out_by_hand_are_not_published(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """No sum of the fact would miss them: they change a customer and no amount."""
    settings.ETL_RETRY_SECONDS = 0
    run_etl()
    order = FactSales.objects.order_by("order_id")[0].order_id
    other = FactSales.objects.exclude(order_id=order).order_by("-order_id")[0].order_id
    Order.objects.filter(pk=order).update(customer_id=Order.objects.get(pk=other).customer_id)
    before(monkeypatch, Stage.LOAD, lambda task: execute("dwh", f"TRUNCATE {Prepared.objects.latest('pk').relation}"))
    with pytest.raises(PreparedLost, match="Run it again"):
        run_etl("full")
    monkeypatch.undo()
    run_etl("full")
    assert_warehouse_equals(compute_expected())


def test_view_on_a_prepared_table_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run_etl()
    changes.apply(40, 7)
    before(monkeypatch, Stage.LOAD, fail(EtlError("Not now.")))
    with pytest.raises(EtlError):
        run_etl("full")
    first, *_ = Prepared.objects.order_by("pk").values_list("relation", flat=True)
    execute("dwh", f"CREATE VIEW looked_at AS SELECT * FROM {first}")
    run_etl("full")
    assert_warehouse_equals(compute_expected())
    assert list(Prepared.objects.values_list("relation", flat=True)) == [first] and other_tables() == [first]
    execute("dwh", "DROP VIEW looked_at")
    drop_leftovers()
    assert other_tables() == []


def fail(error: EtlError) -> Callable[[Task], None]:
    def raise_error(task: Task) -> None:
        raise error

    return raise_error


def test_failed_run_resumes_with_what_it_has_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, Stage.LOAD, fail(EtlError("Not now.")))
    with pytest.raises(EtlError):
        run_etl()
    assert not FactSales.objects.exists() and not DimCustomer.objects.filter(pk__gt=0).exists()
    prepared = set(Prepared.objects.values_list("relation", flat=True))
    assert len(prepared) == 3
    run = Run.objects.get()
    resume_run(run.pk)
    execute_run(run)
    assert set(leaves()) == prepared
    assert_warehouse_equals(compute_expected())


def test_run_that_a_version_without_this_stage_has_planned_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, Stage.LOAD, fail(EtlError("Not now.")))
    with pytest.raises(EtlError):
        run_etl()
    drop_all_prepared()
    run = Run.objects.get()
    run.tasks.filter(stage=Stage.PREPARE).delete()
    del run.found["prepared"], run.found["new"]
    run.save()
    resume_run(run.pk)
    execute_run(run)
    assert_warehouse_equals(compute_expected())


def test_next_run_drops_what_a_failed_one_has_prepared_and_takes_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, Stage.LOAD, fail(EtlError("Not now.")))
    with pytest.raises(EtlError):
        run_etl()
    reserved = dict(ReservedKey.objects.filter(dimension="dim_product").values_list("member_id", "member_key"))
    assert reserved
    run_etl()
    assert dict(DimProduct.objects.filter(pk__gt=0).values_list("product_id", "pk")) == reserved
    assert other_tables() == [] and not Prepared.objects.exists()
    assert_warehouse_equals(compute_expected())


def test_leftovers_are_dropped_once_nobody_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, Stage.LOAD, fail(EtlError("Not now.")))
    with pytest.raises(EtlError):
        run_etl()
    drop_leftovers()
    assert Prepared.objects.exists()
    run = Run.objects.get()
    Run.objects.update(finished_at=run.finished_at - timedelta(hours=2))
    drop_leftovers()
    assert not Prepared.objects.exists() and other_tables() == []
    resume_run(run.pk)
    execute_run(run)
    assert_warehouse_equals(compute_expected())


def test_full_disk_gives_the_space_back(monkeypatch: pytest.MonkeyPatch) -> None:
    build = preparing.prepare
    calls = []

    def fill_up(request: Any) -> None:
        calls.append(request)
        if len(calls) == 3:
            raise NoSpace("dwh is full.")
        build(request)

    monkeypatch.setattr(preparing, "prepare", fill_up)
    with pytest.raises(NoSpace):
        run_etl()
    assert not Prepared.objects.exists() and other_tables() == [] and not FactSales.objects.exists()
    run = Run.objects.get()
    resume_run(run.pk)
    execute_run(run)
    assert_warehouse_equals(compute_expected())


def test_dry_run_leaves_nothing() -> None:
    run_etl(dry_run=True)
    assert not Prepared.objects.exists() and other_tables() == [] and not FactSales.objects.exists()
    run_etl()
    changes.apply(40, 7)
    run_etl("incremental", dry_run=True)
    assert not Prepared.objects.exists() and other_tables() == []


def test_member_that_no_source_has_is_inferred_once() -> None:
    lines = list(OrderItem.objects.filter(order__status="paid").order_by("order_id")[::40])
    for line in lines:
        OrderItem.objects.filter(pk=line.pk).update(product_id=777)
    run_etl()
    assert_warehouse_equals(compute_expected())
    assert DimProduct.objects.filter(product_id=777, is_inferred=True).count() == 1


def test_key_in_two_partitions_stops_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The primary key of a partitioned table holds the order, too: that a line is there once is a check."""

    def repeat_line(task: Task) -> None:
        first, *_, last = Prepared.objects.filter(fact="fact_sales").order_by("pk")
        execute(
            "dwh",
            f"UPDATE {last.relation} SET order_item_id = (SELECT MIN(order_item_id) FROM {first.relation}) "
            f"WHERE order_item_id = (SELECT MIN(order_item_id) FROM {last.relation})",
        )

    before(monkeypatch, Stage.LOAD, repeat_line)
    with pytest.raises(ChecksRefused, match="order_item_id"):
        run_etl()
    assert not FactSales.objects.exists()


def test_load_that_failed_late_leaves_nothing_when_it_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fingerprints were staged already, in a table of their own."""

    def refuse(*arguments: Any) -> None:
        raise EtlError("Not now.")

    monkeypatch.setattr(publishing, "apply_brakes", refuse)
    with pytest.raises(EtlError):
        run_etl()
    monkeypatch.undo()
    run = Run.objects.get()
    resume_run(run.pk)
    execute_run(run)
    assert_warehouse_equals(compute_expected())
    assert other_tables() == [] and not Prepared.objects.exists()
