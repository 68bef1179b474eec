"""The overview's numbers match the ledger and the warehouse, and invalid filters get a message."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.console.groups import OPERATOR, VIEWER
from apps.orchestration.models import CheckResult, Mode, Reject, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.tally import tallies
from apps.sources.orders.models import OrderItem
from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import read_months, read_totals
from techmarket.formats import localize_count, localize_rounded_uah, localize_uah
from tests.console.conftest import SignIn, page_text
from tests.orchestration.harness import count_tasks

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
INDEX = "/admin/"
BALANCES = f"{INDEX}dwh/factsales/balances/"


def test_numbers_match_ledger_json_and_warehouse(loaded_run: Run, sign_in: SignIn, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    call_command("run_etl", "--mode", "full", "--reread", "--json")
    document = json.loads(capsys.readouterr().out)
    last = Run.objects.first()
    assert last and document["run"] == last.pk
    written = sum(row[name] for row in document["tables"].values() for name in ("inserted", "updated", "deleted", "derived"))
    rejected = sum(row["rows"] for row in document["rejects"])
    passed = sum(check["passed"] for check in document["checks"])
    assert rejected == Reject.objects.filter(run=last).count() == 1
    assert rejected == sum(row["rejected"] for row in document["tables"].values())
    text = page_text(sign_in(VIEWER), INDEX)
    assert f"Run {last.pk} (full) succeeded" in text and f"{localize_count(written)} rows written" in text
    assert f"{passed} of {len(document['checks'])} checks passed" in text
    assert passed == CheckResult.objects.filter(run=last, passed=True).count()
    assert f"{rejected} open reject" in text
    first = tallies([loaded_run])[loaded_run.pk].written
    assert f"Succeeded {localize_count(first)} " in text and first > 1000, "the table of latest runs lists the run before"


def test_kpis_match_the_warehouse(loaded_run: Run, sign_in: SignIn) -> None:
    FactSales.objects.filter(pk=FactSales.objects.earliest("pk").pk).update(margin_amount=None, cost_amount=None)
    text = page_text(sign_in(VIEWER), INDEX, start="", end="")
    found = read_totals()
    for number in (
        localize_rounded_uah(found.net),
        localize_count(found.orders),
        localize_uah(found.average_order),
        localize_uah(found.margin),
        f"{found.margin_percent} %",
        f"cost unknown for {localize_uah(found.uncosted)} of revenue",
    ):
        assert number in text, number
    for month in read_months():
        assert f"{localize_uah(month.net)} {localize_uah(month.margin)} {month.orders}" in text


def test_managers_are_named_to_those_who_may_see_personal_data(loaded_run: Run, sign_in: SignIn) -> None:
    sellers = {fact.employee for fact in FactSales.objects.filter(employee__gt=0).select_related("employee")}
    viewed, operated = page_text(sign_in(VIEWER), "/admin/"), page_text(sign_in(OPERATOR), "/admin/")
    for seller in sellers:
        assert str(seller) in operated and str(seller) not in viewed
        assert f"Employee {seller.pk}" in viewed and f"Employee {seller.pk}" not in operated


def test_every_kpi_leads_to_the_rows_behind_it(loaded_run: Run, sign_in: SignIn) -> None:
    """Follow each link of each table: the rows there add up to the figure of the line."""
    client = sign_in(VIEWER)
    context = client.get(INDEX, {"start": "", "end": "", "region": "KV"}).context
    lines = [line for figure in context["figures"] for line in figure.lines]
    assert len(lines) > 30
    for line in lines:
        answer = client.get(line.href)
        assert answer.status_code == 200
        assert localize_uah(sum((fact.net_amount for fact in answer.context["cl"].queryset), Decimal(0))) == line.cells[0], line


BAD: list[dict[str, str]] = [
    {"start": "yesterday"},
    {"start": "2025-02-30"},
    {"end": "9999-12-31"},
    {"start": "0001-01-01"},
    {"start": "2025-06-01", "end": "2025-05-01"},
    {"region": "XX"},
    {"region": "'; DROP TABLE fact_sales; --"},
    {"start": "<script>alert(1)</script>"},
    {"region": "K" * 10_000},
    {"start": "\x00"},
    {"end": "٢٠٢٥-٠١-٠١"},
]


@pytest.mark.parametrize("query", BAD, ids=lambda query: repr(query)[:30])
def test_invalid_filter_gets_a_message(loaded_run: Run, sign_in: SignIn, query: dict[str, str]) -> None:
    answer = sign_in(VIEWER).get(INDEX, query)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert 'role="alert"' in text or "report" in answer.context, "a message, unless the value is valid"
    assert "<script>alert" not in text
    assert FactSales.objects.exists()


@pytest.mark.parametrize("address", [INDEX, BALANCES])
@pytest.mark.parametrize("query", ["from=2026-02-30", "start=2026-01-01&ende=2026-01-02", "from=%00"])
def test_unknown_filter_is_named(loaded_run: Run, sign_in: SignIn, address: str, query: str) -> None:
    """All days, or the usual ones, would be shown as if they had been asked for."""
    answer = sign_in(VIEWER).get(f"{address}?{query}")
    assert "There is no filter" in answer.content.decode() and "The filters are start, end, region" in answer.content.decode()
    assert "report" not in answer.context and "orders" not in answer.context


def test_default_period_is_the_last_year_with_sales(loaded_run: Run, sign_in: SignIn) -> None:
    context = sign_in(VIEWER).get(INDEX).context
    start, end = context["filters"].cleaned_data["start"], context["filters"].cleaned_data["end"]
    assert end == context["sales_dates"][1] and (end - start).days == 364
    assert context["report"].totals == read_totals(start, end)
    assert context["report"].before, "the period before, for comparison"


def test_new_load_is_shown_at_once(loaded_run: Run, sign_in: SignIn) -> None:
    """The cache's key names the load."""
    client = sign_in(VIEWER)
    before = client.get(INDEX, {"start": "", "end": ""}).context["report"].totals
    with CaptureQueriesContext(connections["dwh"]) as second:
        assert client.get(INDEX, {"start": "", "end": ""}).context["report"].totals == before
    assert not [query for query in second.captured_queries if "fact_sales" in query["sql"]]
    OrderItem.objects.filter(pk=FactSales.objects.latest("pk").pk).update(quantity=100)
    call_command("run_etl", "--mode", "full", "--json")
    assert client.get(INDEX, {"start": "", "end": ""}).context["report"].totals.net > before.net


def test_queries_do_not_grow_with_the_runs(loaded_run: Run, sign_in: SignIn) -> None:
    client = sign_in(VIEWER)
    client.get(INDEX)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connections["default"]) as control, CaptureQueriesContext(connections["dwh"]) as dwh:
            client.get(INDEX)
        counts.append((len(control), len(dwh)))
        for _ in range(40):
            made = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.SUCCEEDED)
            task = Task.objects.create(run=made, stage=Stage.LOAD, state=State.SUCCEEDED)
            RowCount.objects.create(run=made, task=task, table="fact_sales", inserted=3)
    assert counts[0] == counts[1] and counts[0][0] <= 30 and counts[0][1] <= 5, counts


def test_page_of_an_empty_warehouse(sign_in: SignIn) -> None:
    text = page_text(sign_in(VIEWER), INDEX)
    assert "No data yet" in text and "Sales figures appear here" in text and "No run has ended yet." in text


def test_unreachable_warehouse_is_reported(loaded_run: Run, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is missing although every migration has been applied."""
    with connections["dwh"].cursor() as cursor:
        cursor.execute("ALTER TABLE etl_load RENAME TO etl_load_away")
    try:
        text = page_text(sign_in(VIEWER), INDEX)
    finally:
        with connections["dwh"].cursor() as cursor:
            cursor.execute("ALTER TABLE etl_load_away RENAME TO etl_load")
    assert "has lost a table" in text and "restore a backup" in text and f"Run {loaded_run.pk} (full)" in text


# --- The part that refreshes itself ---


def get_now(client: Client, **query: str) -> Any:
    return client.get(reverse("console:now"), query)


def test_progress_of_the_active_run(loaded_run: Run, sign_in: SignIn) -> None:
    client = sign_in(VIEWER)
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.RUNNING)
    for number in range(4):
        Task.objects.create(run=run, stage=Stage.EXTRACT, subject="dim_region", state=State.SUCCEEDED if number else State.RUNNING)
    count_tasks(run)
    text = get_now(client, seen=client.get(INDEX).context["edition"])
    assert f"Run {run.pk} (full)" in " ".join(text.content.decode().split()) and 'value="75"' in text.content.decode()
    assert "every 2s" in text.content.decode() and "HX-Refresh" not in text


def test_queued_run_is_not_called_running(loaded_run: Run, sign_in: SignIn) -> None:
    began = timezone.now() - timedelta(minutes=5)
    Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.QUEUED, executor="workers", created_at=began)
    text = page_text(sign_in(VIEWER), reverse("console:now"))
    assert "queued since" in text and "Waiting for a worker. No worker has taken this run yet." in text and "done" not in text


def test_the_page_reloads_once_a_run_has_published(loaded_run: Run, sign_in: SignIn) -> None:
    client = sign_in(VIEWER)
    seen = client.get(INDEX).context["edition"]
    assert "HX-Refresh" not in get_now(client, seen=seen)
    call_command("run_etl", "--mode", "full", "--json")
    assert get_now(client, seen=seen)["HX-Refresh"] == "true"


def test_refresh_needs_the_permission_to_view_runs(loaded_run: Run, sign_in: SignIn, client: Client) -> None:
    assert get_now(client).status_code == 403 and get_now(client)["HX-Refresh"] == "true"
    assert sign_in(VIEWER).post(reverse("console:now")).status_code == 405


def test_user_without_a_group_sees_nothing(loaded_run: Run, client: Client, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("petro", is_staff=True))
    text = page_text(client, INDEX)
    assert "You have no access yet." in text and "Run 1" not in text and "UAH" not in text
