"""Rejects in the admin: found by rule, table, run and age; hidden from those who may not see them; harmless in a spreadsheet; replayed."""

import csv
import io
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.console.rejects.admin import TABLES
from apps.demo import shop
from apps.orchestration.models import Mode, Reject, RejectState, Run, Stage, StandingReject, State, Trigger
from apps.sources.orders.models import Order, OrderItem
from tests.console.conftest import SignIn, list_messages, page_text
from tests.etl.warehouse_rows import run_etl
from tests.orchestration.conftest import broker  # noqa: F401  fixture
from tests.orchestration.harness import FakeBroker, ago, fresh
from tests.test_spreadsheets import FORMULA_STARTS

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


def read_csv(client: Client, file: str = FILE, **where: Any) -> list[list[str]]:
    answer = client.get(reverse(file), where)
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
    for page in (LIST, FILE, "admin:orchestration_reject_xlsx"):
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
    person = User.objects.get(username=VIEWER)
    person.groups.clear()
    viewer.force_login(person)  # the session has ended with the rights it began with
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


# --- The life of a reject: links, replay and acceptance ---

STANDING_LIST, STANDING_FILE = "admin:orchestration_standingreject_changelist", "admin:orchestration_standingreject_csv"


@pytest.fixture
def dirty_shop() -> OrderItem:
    """Load a shop, then a negative price and a rejected order. Return the line with the price."""
    shop.generate(40, 7)
    run_etl()
    line, other = OrderItem.objects.filter(order__status="paid").order_by("order_id", "id").distinct()[:2]
    other_order = Order.objects.filter(status="paid").exclude(pk__in=[line.order_id, other.order_id]).order_by("pk")[0]
    OrderItem.objects.filter(pk=line.pk).update(unit_price=-1)
    Order.objects.filter(pk=other_order.pk).update(status="misplaced")
    run_etl("incremental")
    return line


def action_address(name: str, *rejects: StandingReject) -> str:
    return reverse(f"admin:orchestration_standingreject_{name}") + "?" + "&".join(f"reject={reject.pk}" for reject in rejects)


def change_address(reject: StandingReject | Reject) -> str:
    return reverse(f"admin:orchestration_{reject._meta.model_name}_change", args=[reject.pk])


def submit(client: Client, name: str, *rejects: StandingReject, reason: str = "") -> Any:
    address = reverse(f"admin:orchestration_standingreject_{name}")
    return client.post(address, {"reject": [reject.pk for reject in rejects], "reason": reason}, follow=True)


def list_history(row: Any) -> list[str]:
    return [entry.change_message for entry in LogEntry.objects.filter(object_id=str(row.pk), content_type__model=row._meta.model_name)]


def test_line_links_to_the_reject_of_its_order(dirty_shop: OrderItem, sign_in: SignIn) -> None:
    client = sign_in(VIEWER)
    for model in (StandingReject, Reject):
        order = model._default_manager.get(table="orders")
        lines = list(model._default_manager.filter(rule="order_rejected"))
        link = f'href="{change_address(order)}">Order {order.row_id}<'
        assert lines and client.get(reverse(f"admin:orchestration_{model._meta.model_name}_changelist")).content.decode().count(
            link
        ) == len(lines)
        assert all(link in client.get(change_address(line)).content.decode() for line in lines)
        assert link not in client.get(change_address(order)).content.decode()
    Reject.objects.filter(table="orders").delete()
    assert client.get(reverse(LIST)).status_code == 200, "of a line whose order's reject is gone"


def test_replay_reads_the_orders_of_the_rejects(dirty_shop: OrderItem, sign_in: SignIn, broker: FakeBroker) -> None:  # noqa: F811
    price, order = StandingReject.objects.get(rule="negative_price"), StandingReject.objects.get(rule="unknown_status")
    operator = sign_in(OPERATOR)
    assert action_address("replay", price) in operator.get(change_address(price)).content.decode()
    assert "negative" in operator.get(action_address("replay", price, order)).content.decode()
    assert not Run.objects.filter(trigger=Trigger.ADMIN).exists(), "a GET starts nothing"
    OrderItem.objects.filter(pk=dirty_shop.pk).update(unit_price=dirty_shop.unit_price)
    submit(operator, "replay", price, order, reason="prices mended")
    run = Run.objects.latest("pk")
    assert run.orders == sorted([dirty_shop.order_id, int(order.row_id)]) and (run.trigger, run.reason) == (Trigger.ADMIN, "prices mended")
    assert list_history(run) == ["Started: prices mended"] and list_history(price) == ["Replayed: prices mended"]
    assert "was skipped" in " ".join(list_messages(submit(operator, "replay", order))), "one run is active"
    broker.deliver_all()
    assert (fresh(price).state, fresh(order).state) == (RejectState.CLEARED, RejectState.OPEN)
    text = " ".join(page_text(operator, change_address(price)).split())
    assert "Replay" not in text and "Accept" not in text.replace("Accepted", "")
    assert "cleared already" in operator.get(action_address("replay", price)).content.decode()


def test_accept_needs_a_reason_and_records_the_person(dirty_shop: OrderItem, sign_in: SignIn) -> None:
    price, order = StandingReject.objects.get(rule="negative_price"), StandingReject.objects.get(rule="unknown_status")
    operator = sign_in(OPERATOR)
    assert "This field is required" in submit(operator, "accept", price, reason=" ").content.decode()
    assert fresh(price).state == RejectState.OPEN
    assert list_messages(submit(operator, "accept", price, order, reason="a test order")) == ["2 rejects accepted."]
    accepted = fresh(price)
    assert (accepted.state, accepted.decided_by, accepted.comment) == (RejectState.ACCEPTED, OPERATOR, "a test order")
    assert list_history(price) == ["Accepted: a test order"] and LogEntry.objects.latest("pk").user.username == OPERATOR
    assert "1 entry" in page_text(operator, reverse("admin:orchestration_standingreject_history", args=[price.pk]))
    assert "operator has accepted it already" in operator.get(action_address("accept", price)).content.decode()
    submit(operator, "accept", price, reason="again")
    assert fresh(price).comment == "a test order"


def test_selected_rejects_are_acted_on_after_confirmation(dirty_shop: OrderItem, sign_in: SignIn) -> None:
    rejects = list(StandingReject.objects.order_by("pk"))
    operator = sign_in(ADMINISTRATOR)
    assert "Select all" not in page_text(operator, reverse(STANDING_LIST)), "the number of all rows is not known"
    for name in ("replay", "accept"):
        chosen = {"action": f"{name}_selected", "_selected_action": [reject.pk for reject in rejects]}
        answer = operator.post(reverse(STANDING_LIST), chosen)
        assert answer.status_code == 302 and answer.headers["Location"] == action_address(name, *rejects)
        assert operator.get(answer.headers["Location"]).status_code == 200
    for ids in ([], ["x"], ["1"] * 51):
        answer = operator.post(reverse("admin:orchestration_standingreject_replay"), {"reject": ids}, follow=True)
        assert list_messages(answer) == ["Select between 1 and 50 rejects."]
    assert operator.delete(action_address("replay", rejects[0])).status_code == 405


def test_viewer_may_neither_replay_nor_accept(dirty_shop: OrderItem, sign_in: SignIn) -> None:
    reject, viewer = StandingReject.objects.latest("pk"), sign_in(VIEWER)
    for name in ("replay", "accept"):
        assert viewer.get(action_address(name, reject)).status_code == 403
        assert submit(viewer, name, reject, reason="x").status_code == 403
        assert action_address(name, reject) not in viewer.get(change_address(reject)).content.decode()
        assert f"{name}_selected" not in viewer.get(reverse(STANDING_LIST)).content.decode()
    assert fresh(reject).state == RejectState.OPEN and not Run.objects.filter(trigger=Trigger.ADMIN).exists()


def test_export_of_standing_rejects_follows_the_filters_and_the_permission(dirty_shop: OrderItem, sign_in: SignIn) -> None:
    price = StandingReject.objects.get(rule="negative_price")
    operator, viewer = sign_in(OPERATOR), sign_in(VIEWER)
    header, *rows = read_csv(operator, STANDING_FILE)
    assert len(rows) == StandingReject.objects.count()
    [row] = read_csv(operator, STANDING_FILE, rule__exact="negative_price")[1:]
    shown = dict(zip(header, row, strict=True))
    assert (shown["number"], shown["state"], shown["reason"]) == (str(price.pk), "open", "the price is negative")
    assert str(dirty_shop.product_id) in shown["raw"]
    assert read_csv(viewer, STANDING_FILE, rule__exact="negative_price")[1][-1] == "•••"
