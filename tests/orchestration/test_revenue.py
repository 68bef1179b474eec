"""What a run does to net revenue: by month and cause, as the ledger, the terminal and the notice say it."""

import json
from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command

from apps.demo import changes, shop
from apps.etl.load import copying
from apps.monitoring.notices import build_notice
from apps.orchestration.models import Run
from apps.orchestration.results import document
from apps.sources.orders.models import Order, OrderItem
from apps.warehouse.models import FactSales
from tests.etl.warehouse_rows import age_source_rows, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def loaded_shop(settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 25
    shop.generate(60, 7)
    run_etl()


def sum_months() -> dict[str, Decimal]:
    """Return net revenue by month, added up here and not by the warehouse."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    rows: list[tuple[date, Decimal]] = list(FactSales.objects.values_list("date__date", "net_amount"))
    for day, net in rows:
        sums[f"{day:%Y-%m}"] += net
    return dict(sums)


def find_changes(before: dict[str, Decimal], after: dict[str, Decimal]) -> dict[str, list[str]]:
    pairs = {month: (before.get(month, Decimal("0.00")), after.get(month, Decimal("0.00"))) for month in {*before, *after}}
    return {month: [str(old), str(new)] for month, (old, new) in pairs.items() if old != new}


def run_and_compare(mode: str = "incremental") -> dict[str, Decimal]:
    """Run, compare the months with those of the fact, and return the change by cause."""
    before = sum_months()
    result = document(run_etl(mode))
    assert {month: list(pair) for month, pair in result["net_by_month"].items()} == find_changes(before, sum_months())
    causes: dict[str, Decimal] = defaultdict(Decimal)
    months: dict[str, Decimal] = defaultdict(Decimal)
    for row in result["net_by_cause"]:
        causes[row["cause"]] += Decimal(row["net"])
        months[row["month"]] += Decimal(row["net"])
    changed = {month: Decimal(after) - Decimal(before) for month, (before, after) in result["net_by_month"].items()}
    assert {month: net for month, net in months.items() if net} == changed
    return dict(causes)


def find_line() -> OrderItem:
    return OrderItem.objects.filter(order__status="paid").order_by("-id")[0]


def net(line: OrderItem) -> Decimal:
    return line.unit_price * line.quantity - line.discount


@pytest.mark.parametrize("rows_per_block", [copying.ROWS_PER_BLOCK, 7])
def test_first_load_is_all_new_sales(monkeypatch: pytest.MonkeyPatch, rows_per_block: int) -> None:
    """An order whose lines are in two blocks is one order."""
    monkeypatch.setattr(copying, "ROWS_PER_BLOCK", rows_per_block)
    shop.generate(60, 7)
    assert run_and_compare("full") == {"new": sum(sum_months().values())}
    assert {row["cause"] for row in Run.objects.get().revenue["by_cause"]} == {"new"}
    rows = Run.objects.get().revenue["by_cause"]
    assert sum(row["lines"] for row in rows) == FactSales.objects.count()
    assert sum(row["orders"] for row in rows) == FactSales.objects.values("order_id").distinct().count()


def test_each_cause_is_named(loaded_shop: None) -> None:
    line = find_line()
    amount = net(line)
    OrderItem.objects.filter(pk=line.pk).update(quantity=line.quantity + 1)
    assert run_and_compare() == {"changed": line.unit_price}
    OrderItem.objects.filter(pk=line.pk).update(quantity=0)
    assert run_and_compare() == {"rejected": -amount - line.unit_price}
    OrderItem.objects.filter(pk=line.pk).update(quantity=line.quantity)
    assert run_and_compare() == {"accepted": amount}
    order = sum(net(each) for each in OrderItem.objects.filter(order_id=line.order_id))
    Order.objects.filter(pk=line.order_id).update(status="cancelled")
    assert run_and_compare() == {"cancelled": -order}
    Order.objects.filter(pk=line.order_id).update(status="paid")
    assert run_and_compare() == {"new": order}
    OrderItem.objects.filter(pk=line.pk).delete()
    assert run_and_compare().get("deleted") == -amount
    assert run_and_compare() == {}


def test_order_deleted_with_its_payments_left_is_deleted(loaded_shop: None) -> None:
    order = find_line().order_id
    amount = sum(net(each) for each in OrderItem.objects.filter(order_id=order))
    execute("orders_db", f"DELETE FROM order_items WHERE order_id = {order}")
    execute("orders_db", f"DELETE FROM orders WHERE id = {order}")
    assert run_and_compare() == {"deleted": -amount}


def test_order_dated_anew_changes_two_months(loaded_shop: None) -> None:
    execute("orders_db", f"UPDATE orders SET order_date = '2024-02-15 12:00:00.000000' WHERE id = {find_line().order_id}")
    assert run_and_compare() == {"changed": 0} and len(Run.objects.latest("id").revenue["by_month"]) == 2


def test_any_changes_add_up(loaded_shop: None) -> None:
    for seed in range(3):
        changes.apply(40, seed)
        age_source_rows()
        run_and_compare(("incremental", "full")[seed % 2])


def test_dry_run_foretells_the_run(loaded_shop: None) -> None:
    OrderItem.objects.filter(pk=find_line().pk).delete()
    before = sum_months()
    foretold = document(run_etl("incremental", dry_run=True))
    assert sum_months() == before
    done = document(run_etl("incremental"))
    names = ("net_by_month", "net_by_cause")
    assert foretold["net_by_month"] and [json.loads(json.dumps(each)) for each in map(foretold.get, names)] == [
        done[each] for each in names
    ]


def test_terminal_and_notice_name_the_amounts(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = find_line()
    OrderItem.objects.filter(pk=line.pk).update(quantity=0)
    call_command("run_etl")
    shown = capsys.readouterr().out
    assert "net before, UAH" in shown and f"rejected now -{net(line):,.2f} (1 line)".replace(",", " ") in shown
    run = Run.objects.latest("id")
    notice = build_notice("recovered", "daily", run)
    assert notice["net_by_month"] == run.revenue["by_month"] != {}
    assert notice["net_by_cause"][0]["net"] == str(-net(line))
    call_command("run_etl")
    assert "Net revenue stays as it is in every month." in capsys.readouterr().out
