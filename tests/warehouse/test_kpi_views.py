"""The KPI views against sums in plain Python, and how migrations drop and create them."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections

from apps.demo import shop
from apps.orchestration import api
from apps.warehouse.facts import FactSales
from apps.warehouse.kpi_sql import KPI_LINES, KPI_ORDERS, VIEWS, View
from apps.warehouse.kpis import fetch_rows, to_uah
from apps.warehouse.partition import WHOLE_RANGE
from apps.warehouse.view_updates import create_views, drop_views, is_current

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
each = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
AMOUNTS = ("gross_amount", "discount_amount", "net_amount", "margin_amount", "paid_amount")
BALANCES = ("outstanding_amount", "overpaid_amount")
POSTGRESQL = "postgresql"


@pytest.fixture
def facts(transactional_db: None) -> list[FactSales]:
    """Load 300 orders; one line has no margin, as if its product were unknown."""
    shop.generate(300, 7)
    assert api.run("full").state == "succeeded"
    FactSales.objects.filter(pk=FactSales.objects.earliest("pk").pk).update(margin_amount=None, cost_amount=None)
    return list(FactSales.objects.select_related("date", "region", "employee", "product", "category"))


@pytest.fixture
def restored_views(transactional_db: None) -> Iterator[None]:
    yield
    create_views(get_app_config(), using="dwh")


def get_app_config() -> Any:
    return apps.get_app_config("dwh")


def get_vendor() -> str:
    return connections["dwh"].vendor


def execute(*statements: str) -> None:
    with connections["dwh"].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def filter_columns(fact: FactSales) -> tuple[Any, ...]:
    day = fact.date
    return (day.date_key, day.date, day.year, day.month, fact.region_id, fact.region.code, fact.region.name)  # type: ignore[attr-defined]


def to_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def read_rows(view: View) -> list[tuple[Any, ...]]:
    """Return all rows, with amounts to the kopiyka and days as text, as SQLite stores them."""
    return [
        tuple(to_uah(value) if name in (*AMOUNTS, *BALANCES) and value is not None else to_text(value) for name, value in row.items())
        for row in fetch_rows(f"SELECT * FROM {view.name}")
    ]


def sum_amounts(facts: list[FactSales], amount: str) -> Decimal:
    return sum((getattr(fact, amount) or Decimal(0) for fact in facts), Decimal("0.00"))


def compute_orders(facts: list[FactSales]) -> list[tuple[Any, ...]]:
    groups: dict[tuple[Any, ...], list[FactSales]] = defaultdict(list)
    for fact in facts:
        groups[*map(to_text, filter_columns(fact)), fact.employee_id, str(fact.employee), fact.payment_method].append(fact)  # type: ignore[attr-defined]
    return [
        (*key, len({fact.order_id for fact in group}), *(sum_amounts(group, amount) for amount in AMOUNTS), *compute_balances(group))
        for key, group in groups.items()
    ]


def compute_balances(facts: list[FactSales]) -> Iterator[Any]:
    """Yield UAH and orders that are outstanding, then those that are overpaid."""
    balances: dict[int, Decimal] = defaultdict(Decimal)
    for fact in facts:
        balances[fact.order_id] += fact.net_amount - fact.paid_amount
    for sign in (1, -1):
        side = [sign * each for each in balances.values() if sign * each > 0]
        yield sum(side, Decimal("0.00"))
        yield len(side)


def compute_lines(facts: list[FactSales]) -> list[tuple[Any, ...]]:
    return [
        (
            *map(to_text, filter_columns(fact)),
            fact.order_id,
            fact.product_id,  # type: ignore[attr-defined]
            fact.product.name,
            fact.category_id,  # type: ignore[attr-defined]
            fact.category.name,
            *(getattr(fact, amount) for amount in AMOUNTS),
        )
        for fact in facts
    ]


@pytest.mark.parametrize(("view", "expected"), [(KPI_ORDERS, compute_orders), (KPI_LINES, compute_lines)])
def test_view_has_the_expected_rows(
    facts: list[FactSales], view: View, expected: Callable[[list[FactSales]], list[tuple[Any, ...]]]
) -> None:
    assert sorted(read_rows(view), key=repr) == sorted(expected(facts), key=repr)


def test_orders_add_up_by_every_column(facts: list[FactSales]) -> None:
    (row,) = fetch_rows("SELECT sum(orders) AS orders FROM kpi_orders")
    assert row["orders"] == len({fact.order_id for fact in facts}) < len(facts)
    for column, of in (("region", lambda fact: fact.region.name), ("payment_method", lambda fact: fact.payment_method)):
        orders = defaultdict(set)
        for fact in facts:
            orders[of(fact)].add(fact.order_id)  # type: ignore[no-untyped-call]
        found = fetch_rows(f"SELECT {column} AS name, sum(orders) AS orders FROM kpi_orders GROUP BY {column}")
        assert {row["name"]: row["orders"] for row in found} == {name: len(ids) for name, ids in orders.items()}


@each
def test_every_column_is_described_in_order(view: View) -> None:
    with connections["dwh"].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {view.name} LIMIT 0")
        assert [column[0] for column in cursor.description] == list(view.columns)
        if get_vendor() != POSTGRESQL:
            return
        cursor.execute("SELECT obj_description(%s::regclass)", [view.name])
        assert cursor.fetchone() == (view.comment,)
        cursor.execute("SELECT attname, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = %s::regclass", [view.name])
        assert dict(cursor.fetchall()) == view.columns


# --- Dropping and creating ---


def test_only_a_view_that_differs_is_replaced(restored_views: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with connections["dwh"].cursor() as cursor:
        assert all(is_current(cursor, view) for view in VIEWS)
        execute("DROP VIEW kpi_orders", "CREATE VIEW kpi_orders AS SELECT 1 AS one")
        assert [is_current(cursor, view) for view in VIEWS] == [False, True]
        call_command("migrate", database="dwh", verbosity=0)
        assert all(is_current(cursor, view) for view in VIEWS)
        execute("DROP VIEW kpi_lines")
        call_command("migrate", database="dwh", verbosity=0)
        assert all(is_current(cursor, view) for view in VIEWS)
    replaced: list[Any] = []
    monkeypatch.setattr("apps.warehouse.view_updates.replace_view", lambda cursor, view: replaced.append(view))
    call_command("migrate", database="dwh", verbosity=0)
    assert replaced == []


def test_changed_comment_is_a_difference(restored_views: None) -> None:
    if get_vendor() != POSTGRESQL:
        pytest.skip("SQLite has no comments")
    execute("COMMENT ON COLUMN kpi_orders.orders IS 'something else'")
    with connections["dwh"].cursor() as cursor:
        assert not is_current(cursor, KPI_ORDERS)
        create_views(get_app_config(), using="dwh")
        assert is_current(cursor, KPI_ORDERS)


def test_table_can_be_altered_while_the_views_are_dropped(restored_views: None) -> None:
    """As a migration of the fact does; both databases refuse it while the views exist."""
    migration = type("Migration", (), {"app_label": "dwh"})()
    drop_views(get_app_config(), using="dwh", plan=[])
    assert fetch_rows("SELECT 1 FROM kpi_orders LIMIT 1") == [], "nothing to migrate: the views are kept"
    drop_views(get_app_config(), using="dwh", plan=[(migration, False)])
    old, new = FactSales._meta.get_field("net_amount"), FactSales._meta.get_field("net_amount").clone()
    new.max_digits = 26
    new.set_attributes_from_name("net_amount")
    new.model = FactSales
    for before, after in ((old, new), (new, old)):
        with connections["dwh"].schema_editor() as editor:
            editor.alter_field(FactSales, before, after)
    create_views(get_app_config(), using="dwh")
    assert fetch_rows("SELECT 1 FROM kpi_orders LIMIT 1") == []


def test_views_survive_the_swap_of_the_partition(facts: list[FactSales]) -> None:
    """A full load into an empty fact swaps the partition of the table that they read."""
    if get_vendor() != POSTGRESQL:
        pytest.skip("only PostgreSQL has partitions")
    before = {view.name: sorted(read_rows(view), key=repr) for view in VIEWS}
    (partition,) = fetch_rows("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass")
    assert partition["name"] != "fact_sales_0", "the load of the fixture has swapped the partition"
    execute(
        f"ALTER TABLE fact_sales DETACH PARTITION {partition['name']}",
        f"ALTER TABLE fact_sales ATTACH PARTITION {partition['name']} {WHOLE_RANGE}",
    )
    assert {view.name: sorted(read_rows(view), key=repr) for view in VIEWS} == before


# --- Speed ---


@pytest.mark.parametrize(
    ("condition", "table", "column"),
    [
        ("date_key BETWEEN 20250101 AND 20250131", "fact_sales", "date_key"),
        ("region_key = 1", "fact_sales", "region_key"),
        ("date BETWEEN '2025-01-01' AND '2025-01-31'", "dim_date", "date"),
    ],
)
def test_filter_is_applied_before_orders_are_grouped(facts: list[FactSales], condition: str, table: str, column: str) -> None:
    if get_vendor() != POSTGRESQL:
        pytest.skip("needs a PostgreSQL plan")
    with connections["dwh"].cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT sum(orders) FROM kpi_orders WHERE {condition}")
        (answer,) = cursor.fetchone()
    plan = json.loads(answer) if isinstance(answer, str) else answer
    scans = [node for node in iterate_nodes(plan[0]["Plan"]) if str(node.get("Relation Name", "")).startswith(table)]
    assert any(column in f"{node.get('Index Cond')} {node.get('Filter')} {node.get('Recheck Cond')}" for node in scans), plan


def iterate_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from iterate_nodes(inner)
