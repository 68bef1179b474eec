"""The export of lists as XLSX: the values of their rows, for those who may see them, and no broken file."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from openpyxl import load_workbook

from apps.console import export
from apps.console.groups import OPERATOR, VIEWER
from apps.orchestration.models import Mismatch, PaymentMismatch, RejectState, StandingReject
from techmarket import spreadsheets
from tests.console.conftest import SignIn, list_messages
from tests.console.test_rejects import ROW, create_reject
from tests.test_spreadsheets import FORMULA_STARTS

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LISTS = ("reject", "standingreject", "paymentmismatch")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def address(model: str, page: str = "xlsx") -> str:
    return reverse(f"admin:orchestration_{model}_{page}")


def read(client: Client, model: str, **where: Any) -> Any:
    """Download the file, and return its sheet."""
    answer: Any = client.get(address(model), where)
    assert answer.status_code == 200 and answer.headers["Content-Disposition"].endswith('.xlsx"')
    return load_workbook(BytesIO(b"".join(answer))).active


def list_values(sheet: Any) -> list[tuple[Any, ...]]:
    return list(sheet.iter_rows(min_row=2, values_only=True))


def create_mismatch(order: int, net: str, captured: str, day: date | None = None, kind: Mismatch = Mismatch.DIFFERS) -> PaymentMismatch:
    amounts = {"net": Decimal(net), "captured": Decimal(captured), "refunded": Decimal("0.10")}
    return PaymentMismatch.objects.create(kind=kind, order_id=order, day=day, checked_at=NOON, **amounts)


def create_standing() -> StandingReject:
    life = {"first_seen": NOON, "last_seen": NOON, "first_run": 3, "last_run": 5, "runs": 2, "subject": "fact_sales", "slice_id": 12}
    row = {"table": "order_items", "row_id": "7", "rule": "negative_price", "params": {}, "raw": ROW, "amount": Decimal("-1234.10")}
    return StandingReject.objects.create(state=RejectState.OPEN, **life, **row)


def test_payment_mismatches_are_numbers_and_dates(sign_in: SignIn) -> None:
    create_mismatch(7, "1234567890123.45", "70.10", date(2026, 1, 31))
    create_mismatch(8, "0.30", "0", kind=Mismatch.NOT_SOLD)
    client = sign_in(VIEWER)
    sheet = read(client, "paymentmismatch")
    assert [cell.value for cell in sheet[1]] == ["list", "order_id", "day", "net", "captured", "refunded", "difference", "checked_at"]
    assert list_values(sheet) == [
        ("not_sold", 8, None, 0.3, 0, 0.1, -0.4, "2026-01-31T12:00:00+00:00"),
        ("differs", 7, datetime(2026, 1, 31), 1234567890123.45, 70.1, 0.1, -1234567890053.45, "2026-01-31T12:00:00+00:00"),
    ]
    assert [cell.number_format for cell in sheet[3]] == ["General", "0", "yyyy-mm-dd", *["#,##0.00"] * 4, "General"]
    assert [row[1] for row in list_values(read(client, "paymentmismatch", kind__exact="differs"))] == [7]


def test_rejects_have_the_values_of_their_rows(sign_in: SignIn) -> None:
    reject, standing = create_reject(), create_standing()
    client = sign_in(OPERATOR)
    [shown] = list_values(read(client, "reject"))
    requested_at = reject.run.created_at.isoformat(timespec="seconds")
    assert shown[:6] == (reject.run_id, requested_at, "customers", "7", "missing_value", reject.reason) and json.loads(shown[6]) == ROW
    sheet = read(client, "standingreject")
    values = dict(zip((cell.value for cell in sheet[1]), list_values(sheet)[0], strict=True))
    assert (values["number"], values["slice_id"], values["amount"], values["runs"]) == (standing.pk, 12, -1234.1, 2)
    assert (values["first_seen"], values["decided_at"], values["reason"]) == ("2026-01-31T12:00:00+00:00", None, standing.reason)


def test_reader_without_the_permission_sees_no_raw_content(sign_in: SignIn) -> None:
    create_reject()
    create_standing()
    client = sign_in(VIEWER)
    for model in ("reject", "standingreject"):
        assert list_values(read(client, model))[0][-1] == "•••"
        assert client.get(address(model), {"raw__email": "o"}).status_code in (302, 400)


def test_formulas_and_control_characters_are_text(sign_in: SignIn) -> None:
    texts = [f'{sign}HYPERLINK("http://evil.example")' for sign in FORMULA_STARTS] + ["http://evil.example", "a\x0bb\x1fc"]
    for text in texts:
        create_reject(row_id=text[:40], params={"column": text}, rule="missing_value")
    for row in read(sign_in(OPERATOR), "reject").iter_rows(min_row=2):
        assert {cell.data_type for cell in row[1:]} == {"s"} and not any(cell.hyperlink for cell in row)


@pytest.mark.parametrize("model", LISTS)
def test_export_needs_the_permission_to_view_the_list_and_a_get(client: Client, sign_in: SignIn, model: str) -> None:
    assert client.get(address(model)).status_code == 302, "redirected to the login"
    viewer = sign_in(VIEWER)
    assert viewer.post(address(model)).status_code == 405
    page = viewer.get(address(model, "changelist"), {"q": "7"}).content.decode()
    assert all(f'href="{address(model, kind)}?q=7"' in page for kind in ("csv", "xlsx"))
    person = User.objects.get(username=VIEWER)
    person.groups.clear()
    viewer.force_login(person)  # the session has ended with the rights it began with
    assert viewer.get(address(model)).status_code == 403


def test_more_rows_than_a_sheet_holds_are_refused_with_a_message(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_XLSX_ROWS", 2)
    for order in (1, 2, 3):
        create_mismatch(order, "2.00", "1.00", kind=Mismatch.UNPAID if order == 3 else Mismatch.DIFFERS)
    client = sign_in(VIEWER)
    answer = client.get(address("paymentmismatch"), {"order_id__gt": "0"}, follow=True)
    [text] = list_messages(answer)
    assert "at most 2 rows" in text and "CSV" in text and answer.request["QUERY_STRING"] == "order_id__gt=0"
    assert len(list_values(read(client, "paymentmismatch", kind__exact="differs"))) == 2
    monkeypatch.undo()
    monkeypatch.setattr(spreadsheets, "MAX_XLSX_ROWS", 2)
    assert client.get(address("paymentmismatch")).status_code == 302, "rows that were added after the check"


def test_rows_are_not_counted(sign_in: SignIn) -> None:
    create_reject()
    client = sign_in(VIEWER)
    with CaptureQueriesContext(connection) as queries:
        read(client, "reject")
    assert not [query for query in queries if "COUNT(*)" in query["sql"] and "orchestration_reject" in query["sql"]]
