"""The life of rejects: one row for a source row and its rule, whatever the number of runs."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from apps.demo import shop
from apps.demo.faults import allow_zero_dates
from apps.etl.transform.rules import RULES
from apps.orchestration.models import Reject, RejectState, Run, StandingReject
from apps.orchestration.recent_runs import open_rejects
from apps.orchestration.results import document
from apps.sources.auth.models import Role, User
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, Employee, Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import DimCustomer, FactSales
from techmarket.spreadsheets import BYTE_ORDER_MARK
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, count_written_rows, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
PRICE = Decimal("-5.00")
REGISTERED = "2025-11-03 07:41:20.000000"


@pytest.fixture
def loaded_shop(settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 25
    shop.generate(60, 7)
    run_etl()


def find_line() -> OrderItem:
    return OrderItem.objects.filter(order__status="paid").order_by("id")[0]


def break_line(line: OrderItem) -> None:
    OrderItem.objects.filter(pk=line.pk).update(unit_price=PRICE)


def get_reject(row: int, table: str = "order_items") -> StandingReject:
    return StandingReject.objects.get(table=table, row_id=str(row))


def test_reject_is_opened_once_and_cleared_when_its_row_is_mended(loaded_shop: None) -> None:
    line = find_line()
    break_line(line)
    first = run_etl("incremental")
    again = run_etl("full", reread=True)
    reject = get_reject(line.pk)
    assert (reject.state, reject.first_run, reject.last_run, reject.runs) == (RejectState.OPEN, first.pk, again.pk, 2)
    assert (reject.subject, reject.rule, reject.slice_id) == ("fact_sales", "negative_price", line.order_id)
    assert Reject.objects.count() == 2 and open_rejects().count == 1
    OrderItem.objects.filter(pk=line.pk).update(unit_price=line.unit_price)
    mended = run_etl("incremental")
    reject.refresh_from_db()
    assert (reject.state, reject.cleared_by_run) == (RejectState.CLEARED, mended.pk) and open_rejects().count == 0
    assert_warehouse_equals(compute_expected())


def test_run_that_does_not_read_the_row_leaves_its_reject(loaded_shop: None) -> None:
    line = find_line()
    break_line(line)
    run_etl("incremental")
    other = Order.objects.exclude(pk=line.order_id).filter(status="paid").order_by("id")[0]
    Order.objects.filter(pk=other.pk).update(status="shipped")
    run_etl("full")
    assert (get_reject(line.pk).state, get_reject(line.pk).runs) in [(RejectState.OPEN, 1), (RejectState.OPEN, 2)]
    assert run_etl("full", dry_run=True) and get_reject(line.pk).state == RejectState.OPEN


def test_deleted_row_is_cleared_and_a_row_that_returns_is_opened_anew(loaded_shop: None) -> None:
    line = find_line()
    break_line(line)
    first = run_etl("incremental")
    OrderItem.objects.filter(pk=line.pk).delete()
    run_etl("incremental")
    assert get_reject(line.pk).state == RejectState.CLEARED
    line.unit_price = PRICE
    line.save(force_insert=True)
    returned = run_etl("incremental")
    reject = get_reject(line.pk)
    assert (reject.state, reject.runs, reject.first_run, reject.cleared_by_run) == (RejectState.OPEN, 1, returned.pk, None)
    assert returned.pk > first.pk and not FactSales.objects.filter(pk=line.pk).exists()


def test_accepted_reject_is_open_again_once_its_content_changes(loaded_shop: None) -> None:
    line = find_line()
    break_line(line)
    run_etl("incremental")
    StandingReject.objects.update(state=RejectState.ACCEPTED)
    run_etl("full", reread=True)
    assert get_reject(line.pk).state == RejectState.ACCEPTED and open_rejects().count == 0
    OrderItem.objects.filter(pk=line.pk).update(unit_price=PRICE - 1)
    run_etl("incremental")
    assert get_reject(line.pk).state == RejectState.OPEN


def test_lines_of_a_rejected_order_hold_its_amount(loaded_shop: None) -> None:
    order = find_line().order
    Order.objects.filter(pk=order.pk).update(customer_id=None) if connections["orders_db"].vendor == "sqlite" else Order.objects.filter(
        pk=order.pk
    ).update(order_date="2014-01-01 00:00:00+00:00")
    run_etl("incremental")
    lines = OrderItem.objects.filter(order_id=order.pk)
    net = sum((line.unit_price * line.quantity - line.discount for line in lines), Decimal(0))
    assert open_rejects().count == 1 + len(lines) and open_rejects().net == net and open_rejects().paid == 0
    assert {reject.rule for reject in StandingReject.objects.filter(table="order_items")} == {"order_rejected"}


def test_payment_holds_its_amount(loaded_shop: None) -> None:
    payment = Payment.objects.filter(status="captured").order_by("id")[0]
    Payment.objects.filter(pk=payment.pk).update(method="barter")
    run_etl("incremental")
    assert (open_rejects().count, open_rejects().net, open_rejects().paid) == (1, 0, payment.amount)


def set_registration(customer: int, mysql: str, sqlite: str) -> None:
    """Set a customer's `created_at` as text, also to what is no date: each engine takes another."""
    with connections["orders_db"].cursor() as cursor:
        is_mysql = cursor.db.vendor == "mysql"
        if is_mysql:
            cursor.execute("SET sql_mode = ''")
        cursor.execute(f"UPDATE customers SET created_at = '{mysql if is_mysql else sqlite}' WHERE id = {customer}")
        if is_mysql:
            cursor.execute("SET sql_mode = DEFAULT")


def break_registration(customer: int) -> None:
    set_registration(customer, "0000-00-00 00:00:00", "never")


def mend_registration(customer: int) -> None:
    set_registration(customer, REGISTERED, REGISTERED)


@pytest.mark.parametrize("size", [1_000, 7])
def test_reject_of_a_dimension_is_cleared_by_the_run_that_reads_its_slice(settings: Any, size: int) -> None:
    settings.ETL_BATCH_ORDERS = size
    shop.generate(60, 7)
    run_etl()
    break_registration(9)
    run_etl("incremental")
    assert get_reject(9, "customers").state == RejectState.OPEN
    Customer.objects.filter(pk=40).update(last_name="Ґ")
    run_etl("incremental")
    assert get_reject(9, "customers").state == RejectState.OPEN
    mend_registration(9)
    run_etl("incremental")
    assert get_reject(9, "customers").state == RejectState.CLEARED


def test_rejected_customer_with_a_negative_id_is_not_flagged_as_deleted(loaded_shop: None) -> None:
    idle = Customer.objects.earliest("pk")
    Customer.objects.create(pk=-5, first_name="Леся", last_name="У", email="lesia@example.com", phone="", region_id=idle.region_id)
    run_etl("incremental")
    break_registration(-5)
    run_etl("incremental")
    assert get_reject(-5, "customers").state == RejectState.OPEN
    assert not DimCustomer.objects.get(customer_id=-5).is_deleted


def test_settling_twice_changes_nothing(loaded_shop: None) -> None:
    break_line(find_line())
    run_etl("incremental")
    assert count_written_rows(run_etl("full")) == {}
    assert StandingReject.objects.count() == 1


# --- manage.py rejects ---


def manage_rejects(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    call_command("rejects", *options)
    return str(capsys.readouterr().out)


def test_replay_reads_only_the_orders_of_open_rejects(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = find_line()
    payment = Payment.objects.filter(status="captured").exclude(order_id=line.order_id).order_by("id")[0]
    break_line(line)
    Payment.objects.filter(pk=payment.pk).update(method="barter")
    run_etl("incremental")
    assert str(line.pk) in manage_rejects(capsys) and "2 open" in manage_rejects(capsys)
    OrderItem.objects.filter(pk=line.pk).update(unit_price=line.unit_price)
    assert "1 open. Open in all: 1" in manage_rejects(capsys, "--replay"), "the other row is as dirty as before"
    run = Run.objects.latest("pk")
    assert run.orders == sorted([line.order_id, payment.order_id]) and run.found["orders"] == {"repair": 2}
    Payment.objects.filter(pk=payment.pk).update(method=payment.method)
    assert "0 open" in manage_rejects(capsys, "--replay")
    assert_warehouse_equals(compute_expected())
    runs = Run.objects.count()
    assert "0 open" in manage_rejects(capsys, "--replay") and Run.objects.count() == runs, "nothing is left to read"


def test_accept_records_who_and_why(loaded_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    break_line(find_line())
    run_etl("incremental")
    reject = StandingReject.objects.get()
    assert "1 accepted" in manage_rejects(capsys, "--accept", str(reject.pk), "--reason", "a test order")
    reject.refresh_from_db()
    assert (reject.state, reject.comment) == (RejectState.ACCEPTED, "a test order") and reject.decided_by and reject.decided_at
    assert json.loads(manage_rejects(capsys, "--state", "accepted", "--json"))[0]["row_id"] == reject.row_id


def test_export_has_every_selected_reject(loaded_shop: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = find_line()
    break_line(line)
    run = run_etl("incremental")
    text = manage_rejects(capsys, "--csv", "-")
    manage_rejects(capsys, "--csv", str(tmp_path / "rejects.csv"))
    assert (tmp_path / "rejects.csv").read_bytes().decode() == text and text.startswith(BYTE_ORDER_MARK)
    [row] = csv.DictReader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK)))
    assert (row["row_id"], row["rule"], row["slice_id"], row["first_run"]) == (
        str(line.pk),
        "negative_price",
        str(line.order_id),
        str(run.pk),
    )
    assert row["reason"] == "the price is negative" and "raw" not in row
    assert len(manage_rejects(capsys, "--csv", "-", "--state", "accepted").splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--accept", "1"],
        ["--reason", "because"],
        ["--accept", "4711", "--reason", "because"],
        ["--csv", "/no/such/folder/rejects.csv"],
        ["--csv", "-", "--json"],
    ],
)
def test_invalid_options_of_rejects_are_refused(transactional_db: None, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        call_command("rejects", *options)
    assert raised.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


# --- Every rule: planted, mended at the source, replayed ---


@dataclass(frozen=True)
class Planted:
    """A table, and the assignment that makes a row break the rule. `sqlite_only`: no other engine can hold the value."""

    rule: str
    target: Any
    assignment: str
    sqlite_only: bool = False
    of_a_fact: bool = True


PLANTED = [
    Planted("bad_date", Order, "order_date = '0000-00-00 00:00:00'"),
    Planted("bad_flag", Employee, "is_manager = 2", of_a_fact=False),
    Planted("bad_money", Payment, "amount = 0"),
    Planted("bad_quantity", OrderItem, "quantity = 0"),
    Planted("bad_text", Product, "name = {text_with_nul}", of_a_fact=False),
    Planted("date_out_of_range", Order, "order_date = '2014-12-31 10:00:00.000000'"),
    Planted("discount_over_gross", OrderItem, "discount = quantity * unit_price + 1"),
    Planted("duplicate", User, "customer_id = customer_id + 1", of_a_fact=False),
    Planted("missing_customer", Order, "customer_id = NULL"),
    Planted("missing_date", Order, "order_date = NULL"),
    Planted("missing_order", OrderItem, "order_id = 999999"),
    Planted("missing_value", Employee, "email = NULL", sqlite_only=True, of_a_fact=False),
    Planted("negative_discount", OrderItem, "discount = -1"),
    Planted("negative_price", OrderItem, "unit_price = -1"),
    Planted("not_whole", OrderItem, "quantity = 1.5", sqlite_only=True),
    Planted("order_rejected", Order, "status = 'misplaced'"),
    Planted("unknown_method", Payment, "method = 'barter'"),
    Planted("unknown_role", Role, "name = 'WIZARD'", of_a_fact=False),
    Planted("unknown_status", Order, "status = 'misplaced'"),
]


def find_row(model: Any) -> int:
    """Return a row that the warehouse loads: a fact's is of an order with a line and one captured payment."""
    line = find_line()
    rows = {OrderItem: line.pk, Order: line.order_id}
    if model is Payment:
        return int(Payment.objects.filter(order_id=line.order_id, status="captured").earliest("pk").pk)
    if model is User:
        return int(User.objects.filter(customer_id__isnull=False).earliest("customer_id").pk)
    return int(rows.get(model) or model.objects.earliest("pk").pk)


@contextmanager
def unchecked(model: Any) -> Iterator[Any]:
    """Yield a cursor that stores what the schema forbids: zero dates, references to nothing, and on SQLite NULL in any column."""
    connection = connections[model._meta.app_label]
    with (
        connection.cursor() as cursor,
        allow_zero_dates(connection),
        connection.constraint_checks_disabled(),
        nullable_columns(cursor, model._meta.db_table) if connection.vendor == "sqlite" else nullcontext(),
    ):
        yield cursor


@contextmanager
def nullable_columns(cursor: Any, table: str) -> Iterator[None]:
    """Hide NOT NULL from SQLite, which does not look at the rows when it is back."""
    cursor.execute("SELECT sql FROM sqlite_master WHERE name = %s", [table])
    [(declared,)] = cursor.fetchall()
    write_schema(cursor, table, declared.replace("NOT NULL", "NULL"))
    try:
        yield
    finally:
        write_schema(cursor, table, declared)


def write_schema(cursor: Any, table: str, declared: str) -> None:
    cursor.execute("PRAGMA writable_schema = ON")
    cursor.execute("UPDATE sqlite_master SET sql = %s WHERE name = %s", [declared, table])
    cursor.execute("PRAGMA writable_schema = RESET")


def assign(model: Any, row: int, assignment: str) -> None:
    with unchecked(model) as cursor:
        text = "'a' || char(0)" if cursor.db.vendor == "sqlite" else "CONCAT('a', CHAR(0 USING utf8mb4))"
        cursor.execute(f"UPDATE {model._meta.db_table} SET {assignment.format(text_with_nul=text)} WHERE id = {row}")


def read_row(model: Any, row: int) -> dict[str, Any]:
    with connections[model._meta.app_label].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table} WHERE id = {row}")
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


def restore(model: Any, row: int, values: dict[str, Any]) -> None:
    columns = [name for name in values if name not in ("id", "created_at", "updated_at")]
    with unchecked(model) as cursor:
        cursor.execute(
            f"UPDATE {model._meta.db_table} SET {', '.join(f'{name} = %s' for name in columns)} WHERE id = {row}",
            [values[name] for name in columns],
        )


def test_every_rule_is_planted() -> None:
    assert {each.rule for each in PLANTED} == set(RULES)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.rule)
def test_mended_row_is_replayed_alone_and_its_reject_cleared(
    loaded_shop: None, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    model = planted.target
    if planted.sqlite_only and connections[model._meta.app_label].vendor != "sqlite":
        pytest.skip("only SQLite stores such a value")
    row = find_row(model)
    before = read_row(model, row)
    order = find_line().order_id
    assign(model, row, planted.assignment)
    run_etl("incremental")
    assert StandingReject.objects.filter(state=RejectState.OPEN, rule=planted.rule).exists()
    restore(model, row, before)
    assert "0 open" in manage_rejects(capsys, "--replay")
    replay = Run.objects.latest("pk")
    assert set(replay.orders or ()) - {999_999} == ({order} if planted.of_a_fact else set())
    assert replay.found["orders"] == {"repair": len(replay.orders or ())}
    lines = OrderItem.objects.filter(order_id=order).count() if planted.of_a_fact else 0
    assert document(replay)["tables"]["fact_sales"]["read"] == lines
    assert_warehouse_equals(compute_expected())
