"""Brakes stop a run that takes too much out of the warehouse, until a person accepts it. The limits are the defaults here."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command

from apps.demo import changes, faults, shop
from apps.etl import checks
from apps.orchestration import api
from apps.orchestration.models import Run, State
from apps.orchestration.requests import resume_run
from apps.orchestration.results import document
from apps.orchestration.worker.local import execute_run
from apps.sources.orders.models import Order, OrderItem
from apps.warehouse.models import DimCustomer, FactSales, Load
from techmarket.commands import ExitCode
from techmarket.errors import BrakesApplied, ChecksRefused
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def loaded_shop(settings: Any) -> None:
    settings.ETL_MAX_REJECTED_PERCENT, settings.ETL_MAX_DELETED_PERCENT, settings.ETL_MAX_MONTH_PERCENT = 5, 5, 10
    shop.generate(600, 42)
    run_etl()


def stop_run(mode: str = "incremental", **options: Any) -> Run:
    """Start a run that the brakes stop. The warehouse stays as it was."""
    before, loads = list(FactSales.objects.order_by("pk").values()), Load.objects.count()
    with pytest.raises(BrakesApplied):
        run_etl(mode, **options)
    run = Run.objects.latest("id")
    assert list(FactSales.objects.order_by("pk").values()) == before and Load.objects.count() == loads
    assert run.is_braked and run.batches.exists()
    return run


def call(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> Any:
    """Return what `run_etl` printed: its JSON, or for an unsuccessful run without one the line on stderr."""
    capsys.readouterr()
    if code:
        with pytest.raises(SystemExit) as ended:
            call_command("run_etl", *options)
        assert ended.value.code == code
    else:
        call_command("run_etl", *options)
    out, err = capsys.readouterr()
    return json.loads(out) if out else err


def failed_checks(run: Run) -> set[str]:
    return {f"{check.table}: {check.name}" for check in run.checks.filter(passed=False)}


def test_dirty_sales_stop_the_run_until_they_are_accepted(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    lines, net = FactSales.objects.count(), sum(FactSales.objects.values_list("net_amount", flat=True))
    faults.plant()
    stopped = call(capsys, "--json", code=ExitCode.REFUSED)
    run = Run.objects.get(pk=stopped["run"])
    assert stopped["cause_code"] == "brakes.applied" and FactSales.objects.count() == lines
    taken = sum(Decimal(row["net"]) for row in stopped["net_by_cause"])
    assert taken < 0 and {row["cause"] for row in stopped["net_by_cause"]} == {"rejected"}
    for month, (before, after) in stopped["net_by_month"].items():
        amount = f"{Decimal(before) - Decimal(after):,.2f} UAH".replace(",", " ")
        assert f"net deleted and rejected in {month}" in run.cause and amount in run.cause
    assert f'--resume {run.pk} --accept "why"' in run.cause

    published = call(capsys, "--json", "--resume", str(run.pk), "--accept", "the import  of May was broken")
    run.refresh_from_db()
    assert published["status"] == "succeeded" and published["accepted"]["reason"] == "the import of May was broken"
    assert (run.accepted_by, run.accepted_because) == (published["accepted"]["by"], "the import of May was broken") and run.accepted_by
    assert published["net_by_cause"] == stopped["net_by_cause"] and FactSales.objects.count() == lines - sum(
        row["lines"] for row in stopped["net_by_cause"]
    )
    assert sum(FactSales.objects.values_list("net_amount", flat=True)) == net + taken
    assert not run.checks.filter(passed=False, blocking=True).exists()
    assert {f"fact_sales: net deleted and rejected in {month}" for month in stopped["net_by_month"]} < failed_checks(run)
    assert_warehouse_equals(compute_expected())
    assert document(run_etl("full", reread=True))["net_by_month"] == {}, "what was accepted once is not asked again"


def test_emptied_payments_stop_the_run(loaded_shop: None) -> None:
    execute("payments_db", "DELETE FROM payments")
    for mode in ("incremental", "full"):
        run = stop_run(mode)
        assert all("payments lost in 202" in name for name in failed_checks(run)) and len(failed_checks(run)) == 24
        assert "UAH of" in run.cause and "and 21 more" in run.cause


def test_emptied_customers_stop_the_run(loaded_shop: None) -> None:
    execute("auth_db", "UPDATE auth_users SET customer_id = NULL")
    execute("orders_db", "DELETE FROM order_items")
    execute("orders_db", "DELETE FROM orders")
    execute("orders_db", "DELETE FROM customers")
    run = stop_run()
    assert {"dim_customer: share deleted", "fact_sales: share deleted", "fact_sales: net deleted"} <= failed_checks(run)
    assert not DimCustomer.objects.filter(is_deleted=True).exists()
    assert "50 rows" in str(run.checks.get(table="dim_customer", passed=False).observed)


def delete_orders(month: str, count: int) -> None:
    orders = FactSales.objects.filter(date__date__startswith=month).order_by("order_id").values_list("order_id", flat=True).distinct()
    for order in list(orders)[:count]:
        execute("orders_db", f"DELETE FROM order_items WHERE order_id = {order}")
        execute("orders_db", f"DELETE FROM orders WHERE id = {order}")


def delete_lines() -> None:
    """Delete 5.1 % of the lines, one of each order of many, so that no month loses a tenth of its orders."""
    lines = FactSales.objects.order_by("order_id", "-pk").values_list("order_id", "pk")
    for line in list(dict(lines).values())[:: len(dict(lines)) // 69][:69]:
        execute("orders_db", f"DELETE FROM order_items WHERE id = {line}")


STOPPED: dict[str, Callable[[], None]] = {
    "net deleted and rejected in 2024-03": lambda: delete_orders("2024-03", 6),
    "share deleted": delete_lines,
}


@pytest.mark.parametrize("name", STOPPED)
def test_what_exceeds_a_limit_stops_the_run(loaded_shop: None, name: str) -> None:
    STOPPED[name]()
    assert f"fact_sales: {name}" in failed_checks(stop_run())


def test_lines_worth_nothing_count_as_rows(loaded_shop: None) -> None:
    """Gifts: no money is lost with them."""
    execute("orders_db", "UPDATE order_items SET discount = quantity * unit_price")
    run_etl("full")
    delete_lines()
    for mode in ("incremental", "full"):
        assert "fact_sales: share deleted" in failed_checks(stop_run(mode))


def test_few_orders_of_a_month_may_go(loaded_shop: None) -> None:
    delete_orders("2024-03", 3)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())


def test_cancellation_is_no_loss(loaded_shop: None) -> None:
    orders = FactSales.objects.filter(date__date__startswith="2024-03").values_list("order_id", flat=True)
    Order.objects.filter(pk__in=list(orders)).update(status="cancelled")
    assert {row["cause"] for row in document(run_etl("incremental"))["net_by_cause"]} == {"cancelled"}


def test_ordinary_days_pass(loaded_shop: None) -> None:
    for seed in range(3):
        changes.apply(40, seed)
        run_etl(("incremental", "full")[seed % 2])
        assert_warehouse_equals(compute_expected())


def test_dirty_first_load_stops(loaded_shop: None) -> None:
    """From the first row on: there is nothing in the warehouse yet to compare with."""
    for model in (FactSales, Load):
        model.objects.all().delete()
    Order.objects.filter(pk__lte=40).update(status="misplaced")
    with pytest.raises(BrakesApplied, match=r"orders: share rejected: expected at most 5 % of 600, observed 40 rows"):
        run_etl("full")
    assert not FactSales.objects.exists()


def test_failed_checks_cannot_be_accepted(loaded_shop: None, monkeypatch: pytest.MonkeyPatch) -> None:
    delete_orders("2024-03", 6)
    monkeypatch.setattr(checks, "balance", lambda counts, written: [checks.expect_none("a check", "fact_sales", 1)])
    with pytest.raises(ChecksRefused) as refused:
        run_etl("incremental")
    assert not isinstance(refused.value, BrakesApplied)
    with pytest.raises(api.CannotResume, match="was not stopped by the brakes: there is nothing to accept"):
        api.resume_run(Run.objects.latest("id").pk, accepted_by="me", because="no")


def test_dry_run_warns(loaded_shop: None) -> None:
    delete_orders("2024-03", 6)
    run = run_etl("incremental", dry_run=True)
    warned = [check["name"] for check in document(run)["checks"] if not check["passed"]]
    assert "net deleted and rejected in 2024-03" in warned and run.state == State.SUCCEEDED


@pytest.mark.parametrize(
    "options",
    [
        ("--accept", "why"),
        ("--resume", "1", "--accept", "  "),
        ("--cancel", "1", "--accept", "why"),
        ("--resume", "1", "--accept", "x" * 256),
    ],
)
def test_acceptance_needs_a_run_and_a_reason(loaded_shop: None, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    assert len(call(capsys, *options, code=ExitCode.USAGE).splitlines()) == 1


# --- Costs ---


@pytest.mark.parametrize("leave", ["deleted", "cancelled", "rejected"])
def test_line_that_returns_has_the_cost_that_it_had(loaded_shop: None, settings: Any, leave: str) -> None:
    line = OrderItem.objects.filter(order__status="paid").order_by("-id")[0]
    fact = FactSales.objects.get(pk=line.pk)
    row = OrderItem.objects.filter(pk=line.pk).values()[0]
    if leave == "cancelled":
        Order.objects.filter(pk=line.order_id).update(status="cancelled")
    elif leave == "rejected":
        OrderItem.objects.filter(pk=line.pk).update(quantity=0)
    else:
        OrderItem.objects.filter(pk=line.pk).delete()
    run_etl("incremental")
    assert not FactSales.objects.filter(pk=line.pk).exists()
    execute("catalog_db", f"UPDATE products SET cost = cost + 1 WHERE id = {line.product_id}")
    run_etl("incremental")
    Order.objects.filter(pk=line.order_id).update(status="paid")
    OrderItem.objects.update_or_create(pk=line.pk, defaults=row | {"quantity": line.quantity + 1})
    run_etl("incremental")
    returned = FactSales.objects.get(pk=line.pk)
    assert fact.unit_cost and (returned.unit_cost, returned.cost_amount) == (fact.unit_cost, fact.unit_cost * (line.quantity + 1))
    assert returned.margin_amount == returned.net_amount - returned.cost_amount


def test_costs_survive_an_emptied_shop(loaded_shop: None, settings: Any) -> None:
    settings.ETL_MAX_DELETED_PERCENT = settings.ETL_MAX_MONTH_PERCENT = 100
    costs = dict(FactSales.objects.values_list("pk", "unit_cost"))
    Order.objects.update(status="new" if (statuses := dict(Order.objects.values_list("pk", "status"))) else "")
    run_etl("incremental")
    assert not FactSales.objects.exists()
    execute("catalog_db", "UPDATE products SET cost = cost + 1")
    for status in set(statuses.values()):
        Order.objects.filter(pk__in=[pk for pk, each in statuses.items() if each == status]).update(status=status)
    run_etl("incremental")
    assert dict(FactSales.objects.values_list("pk", "unit_cost")) == costs


def test_acceptance_ends_where_another_ledger_publishes_first(loaded_shop: None) -> None:
    """The run is planned again, and may take out what the person has not seen."""
    execute("payments_db", "DELETE FROM payments WHERE id % 2 = 0")
    run = stop_run()
    resume_run(run.pk, accepted_by="olena", because="no longer needed")
    latest = Load.objects.latest("sequence")
    latest.pk, latest.sequence, latest.run_uuid, latest.run_id = None, latest.sequence + 1, UUID(int=1), 4711
    latest.save(force_insert=True)
    execute("payments_db", "DELETE FROM payments")
    with pytest.raises(BrakesApplied):
        execute_run(run)
    run.refresh_from_db()
    assert run.is_braked and run.accepted_by == ""
