"""Values that only some engine stores, on every page and in every file that may show them: as they are stored, with a mark."""

from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.urls import reverse
from openpyxl import load_workbook

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.console.unreadable import HIDDEN
from apps.demo import shop
from apps.orchestration import api
from apps.orchestration.models import DayProof, Mismatch, PaymentMismatch, Run
from apps.sources.orders.models import Order
from apps.warehouse.facts import FactSales
from tests.console.conftest import SignIn, page_text
from tests.console.test_exports import create_mismatch

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
UNREADABLE_DATES = {
    "sqlite": ("10000-13-45 99:99:99", "2026-13-45 10:00:00", "yesterday", "9999-12-31 23:59:59"),
    "mysql": ("0000-00-00 00:00:00", "2026-00-00 00:00:00", "9999-12-31 23:59:59"),
    "postgresql": ("infinity", "-infinity", "12026-01-01", "0044-03-15 BC"),
}


def store(model: type, column: str, value: str, key: Any) -> None:
    """Write the value past Django, and on MySQL past its strict mode."""
    meta = model._meta  # type: ignore[attr-defined]
    database = "orders_db" if meta.app_label == "orders_db" else "dwh" if meta.app_label == "dwh" else "default"
    with connections[database].cursor() as cursor:
        if connections[database].vendor == "mysql":
            cursor.execute("SET SESSION sql_mode = ''")
        cursor.execute(f"UPDATE {meta.db_table} SET {column} = %s WHERE {meta.pk.column} = %s", [value, key])
    connections[database].close()


def read_csv(client: Client, address: str) -> str:
    answer: Any = client.get(address)
    assert answer.status_code == 200
    return b"".join(answer).decode()


@pytest.mark.parametrize("number", range(4))
def test_source_row_is_shown_as_it_is_stored(transactional_db: None, sign_in: SignIn, number: int) -> None:
    values = UNREADABLE_DATES[connections["orders_db"].vendor]
    if number >= len(values):
        pytest.skip("this engine has fewer such values")
    shop.generate(20, 7)
    order, client = Order.objects.latest("pk"), sign_in(OPERATOR)
    store(Order, "order_date", values[number], order.pk)
    lists = reverse("admin:orders_db_order_changelist")
    for address in (
        lists,
        f"{lists}?o=-1",
        f"{lists}?status__exact={order.status}",
        reverse("admin:orders_db_order_change", args=[order.pk]),
    ):
        assert f"⚠ {values[number]}" in page_text(client, address), address


@pytest.mark.parametrize("number", range(4))
def test_ledger_row_is_shown_and_exported_as_it_is_stored(transactional_db: None, sign_in: SignIn, number: int) -> None:
    value, client = UNREADABLE_DATES[connections["default"].vendor][number], sign_in(OPERATOR)
    row, other = create_mismatch(7, "1", "2", date(2026, 1, 31)), create_mismatch(8, "3", "4", date(2026, 1, 31))
    store(PaymentMismatch, "checked_at" if connections["default"].vendor == "sqlite" else "day", value, row.pk)
    for page in ("changelist", "change"):
        address = reverse(f"admin:orchestration_paymentmismatch_{page}", args=[row.pk] if page == "change" else [])
        assert f"⚠ {value}" in page_text(client, address)
    lines = read_csv(client, reverse("admin:orchestration_paymentmismatch_csv"))
    assert f"⚠ {value}" in lines and f",{other.order_id}," in lines
    file: Any = client.get(reverse("admin:orchestration_paymentmismatch_xlsx"))
    cells = [str(cell) for line in load_workbook(BytesIO(b"".join(file))).active.iter_rows(values_only=True) for cell in line]
    assert f"⚠ {value}" in cells


def test_list_whose_heading_cannot_be_read_shows_its_rows(transactional_db: None, sign_in: SignIn) -> None:
    create_mismatch(7, "1", "2", date(2026, 1, 31))
    DayProof.objects.create(day=date(2026, 1, 1), verdict="equal", checked_at=datetime(2026, 1, 1, tzinfo=UTC))
    store(DayProof, "checked_at", UNREADABLE_DATES[connections["default"].vendor][0], "2026-01-01")
    text = page_text(sign_in(VIEWER), reverse("admin:orchestration_paymentmismatch_changelist"))
    assert "2026-01-31" in text or "31 January 2026" in text


def test_rows_are_not_shown_to_those_who_may_not_view_them(transactional_db: None, sign_in: SignIn) -> None:
    create_mismatch(7, "1", "2", date(2026, 1, 31))
    DayProof.objects.create(day=date(2026, 1, 1), verdict="equal", checked_at=datetime(2026, 1, 1, tzinfo=UTC))
    store(DayProof, "checked_at", UNREADABLE_DATES[connections["default"].vendor][0], "2026-01-01")
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(reverse("admin:orchestration_paymentmismatch_changelist")).status_code in (400, 403)


def test_hash_of_a_password_is_not_shown(transactional_db: None, sign_in: SignIn) -> None:
    client, user = sign_in(ADMINISTRATOR), User.objects.create_user("olena", password="secret")
    value = UNREADABLE_DATES[connections["default"].vendor][0]
    store(User, "last_login", value, user.pk)
    for address in (reverse("admin:auth_user_changelist"), reverse("admin:auth_user_change", args=[user.pk])):
        text = page_text(client, address)
        assert f"⚠ {value}" in text and HIDDEN in text and user.password not in text


def test_run_with_an_unreadable_instant_breaks_no_page(transactional_db: None, schedules: None, sign_in: SignIn) -> None:
    """Not the overview either, which reads the latest runs."""
    run = Run.objects.create(state="failed", mode="full", trigger="admin", requested_by="root")
    value = UNREADABLE_DATES[connections["default"].vendor][0]
    store(Run, "finished_at", value, run.pk)
    client = sign_in(OPERATOR)
    assert f"⚠ {value}" in page_text(client, reverse("admin:orchestration_run_changelist"))
    assert f"⚠ {value}" in page_text(client, reverse("admin:orchestration_run_change", args=[run.pk]))
    for address in ("/admin/", "/admin/now/", f"{reverse('admin:orchestration_run_rerun')}?run={run.pk}"):
        client.raise_request_exception = False
        assert client.get(address).status_code in (200, 400), address


@pytest.mark.parametrize("value", ["null", "[]", '"x"', "123"])
@pytest.mark.parametrize("column", ["found", "revenue"])
def test_run_with_other_json_than_an_object_is_shown_as_it_is_stored(
    transactional_db: None, schedules: None, sign_in: SignIn, column: str, value: str
) -> None:
    run = Run.objects.create(state="succeeded", mode="full", trigger="admin", requested_by="root")
    store(Run, column, value, run.pk)
    assert f"⚠ {value}" in page_text(sign_in(OPERATOR), reverse("admin:orchestration_run_change", args=[run.pk]))


def test_amount_that_is_no_number_is_named(loaded_run: Run, sign_in: SignIn) -> None:
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("only PostgreSQL has NaN")
    fact, client = FactSales.objects.latest("pk"), sign_in(OPERATOR)
    store(FactSales, "net_amount", "NaN", fact.pk)
    for address in ("/admin/?start=&end=", reverse("admin:dwh_factsales_balances")):
        assert "NaN" in page_text(client, address), address
    for page in ("changelist", "change"):
        address = reverse(f"admin:dwh_factsales_{page}", args=[fact.pk] if page == "change" else [])
        assert "⚠ NaN" in page_text(client, address)
    FactSales.objects.filter(pk=fact.pk).delete()  # as the message advises
    assert api.run("full").state == "succeeded" and FactSales.objects.filter(pk=fact.pk).exists()
    assert "NaN" not in page_text(client, "/admin/?start=&end=")


def test_mismatch_that_is_no_number_is_named(transactional_db: None, sign_in: SignIn) -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("only PostgreSQL has NaN")
    row, client = create_mismatch(7, "1", "2", date(2026, 1, 31), Mismatch.DIFFERS), sign_in(OPERATOR)
    store(PaymentMismatch, "net", "NaN", row.pk)
    assert "⚠ NaN" in page_text(client, reverse("admin:orchestration_paymentmismatch_changelist"))
    assert "⚠ NaN" in read_csv(client, reverse("admin:orchestration_paymentmismatch_csv"))
