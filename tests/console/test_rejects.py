"""Rejects in the admin: found by rule, table, run and age; hidden from those who may not see them; harmless in a spreadsheet."""

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.console.groups import OPERATOR, VIEWER
from apps.console.rejects.admin import TABLES
from apps.orchestration.models import Mode, Reject, Run, Stage, State, Trigger
from techmarket.spreadsheets import FORMULA_STARTS
from tests.console.conftest import SignIn
from tests.orchestration.harness import ago

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIST, FILE = "admin:orchestration_reject_changelist", "admin:orchestration_reject_csv"
ROW = {"id": "7", "email": "olena@shop.example", "first_name": "=cmd|'/c calc'!A1", "phone": None}


def create_reject(run: Run | None = None, **fields: Any) -> Reject:
    run = run or Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.SUCCEEDED)
    task = run.tasks.create(stage=Stage.TRANSFORM, subject="dim_customer", state=State.SUCCEEDED)
    standard = {"table": "customers", "row_id": "7", "rule": "missing_value", "params": {"column": "last_name"}, "raw": ROW}
    return Reject.objects.create(run=run, task=task, **standard | fields)


def list_ids(client: Client, **where: Any) -> list[int]:
    return [row.pk for row in client.get(reverse(LIST), where).context["cl"].result_list]


def read_csv(client: Client, **where: Any) -> list[list[str]]:
    answer = client.get(reverse(FILE), where)
    assert answer.streaming and "rejects.csv" in answer.headers["Content-Disposition"]
    text = b"".join(answer).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text)))


def test_reject_of_an_older_release_shows_its_code(sign_in: SignIn) -> None:
    """A rule that no longer exists, and a reason with a parameter that the row lacks."""
    gone, unfilled = create_reject(rule="bad_colour", params={}), create_reject(rule="missing_value", params={"field": "email"})
    client = sign_in(VIEWER)
    for row in (gone, unfilled):
        assert row.reason == row.rule
        assert client.get(reverse("admin:orchestration_reject_change", args=[row.pk])).status_code == 200
        assert row.rule in client.get(reverse("admin:orchestration_run_change", args=[row.run_id])).content.decode()
    assert (gone.label, unfilled.label) == ("bad_colour", "Missing value")
    assert [line[4:6] for line in read_csv(client)[1:]] == [["missing_value"] * 2, ["bad_colour"] * 2]


def test_filters(sign_in: SignIn) -> None:
    first, second = create_reject(), create_reject(table="orders", rule="missing_date", row_id="12")
    Run.objects.filter(pk=first.run_id).update(created_at=ago(days=40))
    client = sign_in(VIEWER)
    assert list_ids(client) == [second.pk, first.pk]
    assert list_ids(client, rule="missing_date") == list_ids(client, table="orders") == list_ids(client, run=second.run_id) == [second.pk]
    assert list_ids(client, rule__exact="missing_date") == list_ids(client, run__exact=second.run_id, table__exact="orders") == [second.pk]
    assert list_ids(client, age="30") == list_ids(client, age="1") == [second.pk] and list_ids(client, age="older") == [first.pk]
    assert (
        list_ids(client, run__gte=second.run_id) == [second.pk] and list_ids(client, q="7") == [first.pk] and list_ids(client, q="1") == []
    )
    assert [row[3] for row in read_csv(client, table="orders")] == ["row_id", "12"]
    Run.objects.update(created_at=ago(days=40))
    assert list_ids(client, age="7") == [] and len(list_ids(client, age="older")) == 2


@pytest.mark.parametrize("where", [{"run": "x"}, {"run__exact": "9" * 30}, {"run__exact": "x"}, {"nonsense": "1"}, {"run__gte": "x"}])
def test_invalid_filters_are_ignored(sign_in: SignIn, where: dict[str, str]) -> None:
    create_reject()
    client = sign_in(VIEWER)
    for page in (LIST, FILE):
        assert client.get(reverse(page), where).status_code in (302, 400)


def test_raw_content_needs_its_permission(sign_in: SignIn) -> None:
    row = create_reject()
    page = reverse("admin:orchestration_reject_change", args=[row.pk])
    operator, viewer = sign_in(OPERATOR), sign_in(VIEWER)
    assert "olena@shop.example" in operator.get(page).content.decode() and ROW["first_name"] in read_csv(operator)[1][6]
    shown = viewer.get(page).content.decode() + viewer.get(reverse(LIST)).content.decode()
    assert "olena@shop.example" not in shown and "•••" in shown and "last_name is empty" in shown
    assert read_csv(viewer)[1][6] == "•••"
    for lookup in ("raw__email", "raw__email__startswith", "raw__icontains", "raw"):
        assert viewer.get(reverse(LIST), {lookup: "o"}).status_code == 400
        assert viewer.get(reverse(FILE), {lookup: "o"}).status_code in (302, 400), lookup
    run = viewer.get(reverse("admin:orchestration_run_change", args=[row.run_id])).content.decode()
    assert "olena@shop.example" not in run
    assert viewer.get(reverse("admin:orchestration_run_changelist"), {"rejects__raw__email": "olena"}).status_code != 200
    assert Reject.objects.get().raw == ROW, "the row itself keeps its content"


def test_no_cell_of_the_csv_is_a_formula(sign_in: SignIn) -> None:
    for sign in FORMULA_STARTS:
        create_reject(
            row_id=f"{sign}1+1"[:40], params={"column": f'{sign}HYPERLINK("http://evil.example")'}, table=f"{sign}x", rule=f"{sign}y"
        )
    create_reject(params={"column": 'of "two"\nlines, and a comma'}, row_id="-5")
    for line in read_csv(sign_in(OPERATOR))[1:]:
        assert len(line) == 7 and not [cell for cell in line if cell.startswith(FORMULA_STARTS)], line
        assert line[3].startswith("'")


def test_csv_needs_the_permission_to_view_rejects_and_a_get(client: Client, sign_in: SignIn) -> None:
    assert client.get(reverse(FILE)).status_code == 302, "redirected to the login"
    viewer = sign_in(VIEWER)
    assert viewer.post(reverse(FILE)).status_code == 405
    User.objects.get(username=VIEWER).groups.clear()
    assert viewer.get(reverse(FILE)).status_code == 403


def test_queries_do_not_grow_with_the_rejects(sign_in: SignIn) -> None:
    """Thousands of rows take the same queries as one, without a COUNT, and the file is streamed in chunks."""
    row, client = create_reject(), sign_in(VIEWER)
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(LIST))
    many = [
        Reject(run=row.run, task=row.task, table="customers", row_id=str(each), rule="duplicate", params={"column": "id"}, raw=ROW)
        for each in range(5_000)
    ]
    Reject.objects.bulk_create(many)
    with CaptureQueriesContext(connection) as lot:
        assert len(list_ids(client)) == 50
    assert len(lot) == len(few) and not [query for query in lot if "COUNT(*)" in query["sql"] and "orchestration_reject" in query["sql"]]
    assert len(read_csv(client)) == 5_002


def test_reject_links_to_its_source_row(sign_in: SignIn) -> None:
    client = sign_in(OPERATOR)
    for table in TABLES:
        row = create_reject(table=table, row_id="3")
        page = client.get(reverse("admin:orchestration_reject_change", args=[row.pk])).content.decode()
        assert f"/admin/{TABLES[table]}/" in page.split('id="content"')[1] and f"{TABLES[table]}.{table} 3" in page
        assert "Reject object" not in page
    odd = create_reject(table="gone", row_id="../../x", rule="new_rule")
    assert "new_rule" in client.get(reverse("admin:orchestration_reject_change", args=[odd.pk])).content.decode()
