"""The run list and the page of a run say what the ledger says, and ask it no more often the more there is."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.console.groups import VIEWER
from apps.console.runs.log import build_log
from apps.console.runs.timeline import WIDTH, draw_timeline
from apps.demo import faults, shop
from apps.orchestration import api
from apps.orchestration.models import Attempt, CheckResult, Mode, Reject, RowCount, Run, Stage, State, Task, Trigger
from apps.orchestration.results import document
from apps.orchestration.tally import tallies, tally_document
from apps.orchestration.window import describe_days, describe_window
from apps.orchestration.worker.stages import STAGES, Landed, Report
from apps.sources.orders.models import OrderItem
from apps.warehouse.facts import FactSales
from techmarket.errors import BadData, ConnectionLost
from techmarket.formats import localize_count, localize_uah
from tests.console.conftest import SignIn, page_text

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIST = reverse("admin:orchestration_run_changelist")


@pytest.fixture
def viewer(sign_in: SignIn) -> Client:
    return sign_in(VIEWER)


def address(run: Run, name: str = "change") -> str:
    return reverse(f"admin:orchestration_run_{name}", args=[run.pk])


def page_context(client: Client, run: Run) -> dict[str, Any]:
    page: dict[str, Any] = client.get(address(run)).context["page"]
    return page


def make_ended_run(state: State = State.SUCCEEDED, mode: Mode = Mode.FULL, seconds: int = 60, **fields: Any) -> Run:
    began = timezone.now() - timedelta(hours=1)
    times = {"created_at": began, "started_at": began, "finished_at": began + timedelta(seconds=seconds)}
    return Run.objects.create(**({"mode": mode, "trigger": Trigger.CLI, "requested_by": "olena", "state": state} | times | fields))


def add_details(run: Run, tasks: int = 2) -> Run:
    for number in range(tasks):
        task = Task.objects.create(run=run, stage=Stage.EXTRACT, subject="fact_sales", low=number, state=State.SUCCEEDED, attempt=1)
        RowCount.objects.create(run=run, task=task, table="fact_sales", read=10, loaded=9, inserted=4, unchanged=5, rejected=1)
        CheckResult.objects.create(
            run=run, task=task, name="c", table="fact_sales", passed=number > 0, blocking=True, expected="0", observed="1"
        )
        Reject.objects.create(run=run, task=task, table="order_items", row_id=str(number), rule="r", raw={})
    return run


# --- Page, list, JSON and ledger agree ---


def test_list_page_json_and_ledger_agree(viewer: Client, capsys: pytest.CaptureFixture[str]) -> None:
    shop.generate(200, 1)
    faults.plant()
    capsys.readouterr()
    call_command("run_etl", "--mode", "full", "--json")
    expected = json.loads(capsys.readouterr().out)
    run = Run.objects.get(pk=expected["run"])
    page = page_context(viewer, run)
    text = {row.table: {name: count for name, count in row.counts if count is not None} for row in page["rows"]}
    assert text == {table: {name: row[name] for name in text[table]} for table, row in (expected["tables"] | expected["sources"]).items()}
    assert set(text["dim_date"]) == set(expected["tables"]["dim_date"])
    assert sorted(check["name"] for check in page["checks"]) == sorted(check["name"] for check in expected["checks"])
    assert [check["passed"] for check in page["checks"]] == sorted(check["passed"] for check in expected["checks"]), (
        "what failed comes first"
    )
    assert [(rule["table"], rule["rule"], rule["rows"]) for rule in page["rules"]] == [
        (rule["table"], rule["rule"], rule["rows"]) for rule in expected["rejects"]
    ]
    tally = tallies([run])[run.pk]
    assert page["tally"] == tally == tally_document(expected) and tally.rejected == run.rejects.count() > 10 and tally.warnings
    assert f"{localize_count(tally.written)} rows written in " in page_text(viewer, address(run))
    rejected = f"{localize_count(tally.rejected)} {tally.rejected_worth}"
    assert "UAH" in rejected and f"{localize_count(tally.written)} {rejected} {tally.passed} of {tally.checks}" in page_text(viewer, LIST)


def test_links_lead_to_the_rows(viewer: Client) -> None:
    shop.generate(200, 1)
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    run = api.run("full")
    page = page_context(viewer, run)
    facts = viewer.get(page["facts"]).context["cl"].queryset
    assert facts.count() == FactSales.objects.count() == document(run)["tables"]["fact_sales"]["inserted"] > 100
    for rule in page["rules"]:
        assert viewer.get(rule["href"]).context["cl"].queryset.count() == rule["rows"]
    assert viewer.get(page["all_rejects"]).context["cl"].queryset.count() == page["tally"].rejected == 1
    second = api.run("full")
    again = page_context(viewer, second)
    assert [row.table for row in again["rows"] if row.href] == [], "the second run wrote nothing"
    assert again["comparison"].baseline == run


def test_dry_run_shows_what_would_change(viewer: Client) -> None:
    shop.generate(200, 1)
    api.run("full")
    OrderItem.objects.filter(pk=FactSales.objects.earliest("pk").pk).update(quantity=100)
    run = api.run("full", dry_run=True)
    assert run.result
    moved = [(before, after) for before, after in run.result["net_by_month"].values() if before != after]
    assert len(moved) == 1
    text = page_text(viewer, address(run))
    before, after = (localize_uah(amount) for amount in moved[0])
    assert f"{before} {after} +" in text and "would be written. The warehouse is unchanged." in text
    assert "Timeline" not in text and "Tasks and attempts" not in text
    assert re.search(
        rf" {run.pk} Succeeded Full, dry run everything .* {localize_count(tallies([run])[run.pk].written)} ", page_text(viewer, LIST)
    )


# --- Summary, cause and log ---


@pytest.mark.parametrize(
    ("cause_kind", "text"),
    [
        ("data", "Cause: data."),
        ("machine", "Cause: infrastructure."),
        ("configuration", "Cause: configuration."),
        ("bug", "Cause: a bug in TechMarket."),
    ],
)
def test_failed_run_shows_cause_and_advice(viewer: Client, cause_kind: str, text: str) -> None:
    run = make_ended_run(State.FAILED, cause="orders_db does not answer.", cause_kind=cause_kind)
    page = page_text(viewer, address(run))
    assert f"Failed orders_db does not answer. {text}" in page
    assert "orders_db does not answer." in page_text(viewer, LIST)


def test_run_that_ended_early_claims_no_count(viewer: Client) -> None:
    unchecked = page_text(viewer, address(make_ended_run(State.FAILED)))
    assert "The run ended before rows were checked." in unchecked and "No rows rejected." not in unchecked
    stopped = add_details(make_ended_run(State.FAILED))
    RowCount.objects.filter(run=stopped).update(inserted=0, unchanged=0)  # as the brakes leave it
    text = page_text(viewer, address(stopped))
    assert "The run ended before the rows were loaded." in text and "Read = inserted" not in text
    assert "Read = inserted" in page_text(viewer, address(add_details(make_ended_run())))


def test_each_state_has_a_summary(viewer: Client) -> None:
    skipped = make_ended_run(State.SKIPPED, cause="Skipped: overlaps run 1.", overlaps=make_ended_run())
    text = page_text(viewer, address(skipped))
    assert f"Skipped: overlaps run 1. Run {skipped.overlaps_id}" in text and "Timeline" not in text
    lost = make_ended_run(State.LOST, cause="vm:1 stopped sending heartbeats.", cause_kind="machine")
    assert "Lost vm:1 stopped sending heartbeats. Cause: infrastructure" in page_text(viewer, address(lost))
    active = make_ended_run(State.QUEUED, finished_at=None, started_at=None)
    assert "Waiting for a worker." in page_text(viewer, address(active))
    Run.objects.filter(pk=active.pk).update(state=State.RUNNING, cancelled_by="petro")
    text = page_text(viewer, address(active))
    assert "0 of 0 tasks done" in text and "petro requested cancellation" in text
    cancelled = make_ended_run(
        State.CANCELLED, cause="Cancelled by petro. Nothing was published.", cancelled_by="petro", reason="wrong day"
    )
    text = page_text(viewer, address(cancelled))
    assert "Cancelled Cancelled by petro." in text and "Reason wrong day" in text and "Cancelled by petro" in text


def test_run_without_details_shows_none(viewer: Client) -> None:
    run = make_ended_run(seconds=3)
    text = page_text(viewer, address(run))
    assert "Succeeded in 3.0 s. Details are deleted after 365 days" in text and "0 rows" not in text and "Timeline" not in text
    assert re.search(rf" {run.pk} Succeeded Full everything olena Command line .* 3.0 s – – –", page_text(viewer, LIST))


def test_earlier_attempts_and_the_log(viewer: Client, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Two attempts at the load fail, the third publishes: the page lists each with its worker and error."""

    def fail(task: Task, report: Report) -> Landed:
        if task.attempt < 3:
            raise ConnectionLost(f"Attempt {task.attempt} lost the warehouse.")
        return load(task, report)

    load = STAGES[Stage.LOAD]
    monkeypatch.setitem(STAGES, Stage.LOAD, fail)
    settings.ETL_RETRY_SECONDS = 0
    shop.generate(200, 1)
    run = api.run("full")
    page = page_context(viewer, run)
    (attempts,) = [attempts for task, _, attempts in page["tasks"] if task.stage == Stage.LOAD]
    assert [(attempt.number, attempt.cause) for attempt in attempts] == [(n, f"Attempt {n} lost the warehouse.") for n in (1, 2)]
    assert all(not attempts for task, _, attempts in page["tasks"] if task.stage != Stage.LOAD)
    lines = [line.text for line in page["log"].lines]
    assert lines[0].startswith("Requested by ") and lines[-1] == f"Run {run.pk}: Succeeded."
    worker = run.worker
    expected = [f"Load: attempt {n} on {worker} failed. Attempt {n} lost the warehouse." for n in (1, 2)]
    assert [line.text for line in page["log"].lines if line.is_failure] == expected
    loaded, written = lines[-2], document(run)["tables"]["fact_sales"]["inserted"]
    assert loaded.startswith("Load: done in ") and f"fact_sales: inserted {localize_count(written)}" in loaded
    assert any(line.startswith("Extract fact_sales: done in ") and "rows extracted: " in line for line in lines)
    assert lines[-3] == expected[1] and expected[0] in page_text(viewer, address(run))


def test_failed_task_shows_its_last_attempt(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: Task, report: Report) -> Landed:
        raise BadData("orders_db: no such table.")

    monkeypatch.setitem(STAGES, Stage.PLAN, fail)
    with pytest.raises(BadData):
        api.run("full")
    ((task, _, attempts),) = page_context(viewer, Run.objects.get())["tasks"]
    assert (task.state, task.cause, attempts) == (State.FAILED, "orders_db: no such table.", [])
    assert page_text(viewer, address(task.run)).count("failed. orders_db: no such table.") == 1


def test_attempt_of_a_task_added_meanwhile_is_left_out() -> None:
    run = add_details(make_ended_run())
    task = run.tasks.latest("pk")
    attempt = Attempt.objects.create(run=run, task=task, number=1, worker="vm:1", started_at=timezone.now(), cause="Lost.")
    known = [each for each in run.tasks.all() if each != task]
    assert not [line for line in build_log(run, known, [attempt]).lines if line.is_failure]
    assert [line.is_failure for line in build_log(run, [*known, task], [attempt]).lines].count(True) == 1


def test_long_log_shows_its_end(viewer: Client) -> None:
    run = add_details(make_ended_run(), 0)
    times = {"started_at": run.started_at, "finished_at": run.started_at}
    Task.objects.bulk_create(Task(run=run, stage=Stage.EXTRACT, low=low, state=State.SUCCEEDED, **times) for low in range(300))
    shown = page_context(viewer, run)["log"]
    assert (len(shown.lines), shown.earlier, shown.lines[-1].text) == (200, 103, f"Run {run.pk}: Succeeded.")
    assert "103 earlier lines not shown" in page_text(viewer, address(run))


def test_comparison_with_the_last_successful_run(viewer: Client) -> None:
    good = add_details(make_ended_run(code_version="aaa", seconds=10))
    make_ended_run(State.FAILED, code_version="bbb")
    make_ended_run(mode=Mode.INCREMENTAL)
    run = add_details(make_ended_run(State.FAILED, code_version="ccc", seconds=75), tasks=5)
    comparison = page_context(viewer, run)["comparison"]
    assert comparison.baseline == good
    lines = {line.name: (line.before, line.now, line.change) for line in comparison.lines}
    assert lines["Rows read"] == ("20", "50", "+30") and lines["Rows written"] == ("8", "20", "+12")
    assert lines["Code version"] == ("aaa", "ccc", "") and lines["Duration"] == ("10.0 s", "1 min 15 s", "+1 min 5 s")
    assert page_context(viewer, good)["comparison"] is None


# --- The list ---


def test_filters_search_and_dates(viewer: Client) -> None:
    old = make_ended_run(created_at=datetime(2024, 3, 5, 12, tzinfo=UTC), requested_by="petro", trigger=Trigger.ADMIN)
    new = make_ended_run(State.FAILED, mode=Mode.INCREMENTAL, cause="No space.", reason="the auditor asked")
    for query, found in (
        ({"state__exact": "failed"}, [new]),
        ({"mode__exact": "full"}, [old]),
        ({"trigger__exact": "admin"}, [old]),
        ({"q": str(old.pk)}, [old]),
        ({"q": "auditor"}, [new]),
        ({"q": "space"}, [new]),
        ({"q": "petro"}, [old]),
        ({"created_at__year": "2024", "created_at__month": "3", "created_at__day": "5"}, [old]),
        ({}, [new, old]),
    ):
        assert list(viewer.get(LIST, query).context["cl"].result_list) == found, query
    assert "5 March" in page_text(viewer, LIST, created_at__year="2024", created_at__month="3")


def test_windows_are_shown_as_days_of_the_shop(viewer: Client) -> None:
    """1 to 2 November in Kyiv, and an instant in Kyiv's time."""
    window = {"window_start": datetime(2024, 10, 31, 22, tzinfo=UTC), "window_end": datetime(2024, 11, 2, 22, tzinfo=UTC)}
    make_ended_run(mode=Mode.INCREMENTAL, **window)
    assert "changes of 1 – 2 November 2024" in page_text(viewer, LIST)
    assert describe_window("incremental", window["window_start"] + timedelta(hours=3), None) == "changes since 1 November 2024, 03:00"
    later = window["window_end"] - timedelta(minutes=1)
    assert describe_window("incremental", window["window_start"], later) == "changes from 1 November 2024, 00:00 to 2 November 2024, 23:59"
    assert describe_window("full", None, None) == "everything" and describe_window("incremental", None, None) == "since the last load"
    days = window["window_start"].date(), window["window_end"].date()
    assert describe_days(*days) == "31 October 2024 – 2 November 2024" and describe_days(days[1], days[1]) == "2 November 2024"


def test_queries_of_the_list_do_not_grow(viewer: Client) -> None:
    counts = []
    for _ in range(2):
        for _ in range(20):
            add_details(make_ended_run())
        with CaptureQueriesContext(connections["default"]) as query:
            assert viewer.get(LIST).status_code == 200
        counts.append(len(query))
        counted = [query["sql"] for query in query.captured_queries if "COUNT(" in query["sql"]]
        assert not [sql for sql in counted if 'FROM "orchestration_run"' in sql], "no COUNT over runs"
    assert counts[0] == counts[1] <= 12, counts


def test_queries_of_a_page_do_not_grow(viewer: Client) -> None:
    viewer.get(address(add_details(make_ended_run(), 2)))  # so that both have a run to compare with, and content types are cached
    counts = []
    for tasks in (2, 120):
        run = add_details(make_ended_run(), tasks)
        with CaptureQueriesContext(connections["default"]) as query:
            assert viewer.get(address(run)).status_code == 200
        counts.append(len(query))
    assert counts[0] == counts[1] <= 20, counts
    assert "and 20 more tasks" in page_text(viewer, address(run))


# --- The refresh ---


def test_page_refreshes_until_the_run_has_ended(viewer: Client) -> None:
    run = add_details(make_ended_run(State.RUNNING, finished_at=None))
    path = address(run, "now")
    whole_page = viewer.get(address(run)).content.decode()
    assert f'hx-get="{path}?seen=running"' in whole_page and "hx-swap-oob" not in whole_page
    answer = viewer.get(path, {"seen": "running"})
    text = answer.content.decode()
    assert "<html" not in text and "every 2s" in text and "no-store" in answer["Cache-Control"]
    assert re.search(r'id="run-timeline"[^>]+hx-swap-oob', text) and 'id="run-buttons">' in text, (
        "buttons are replaced only when the state changes"
    )
    Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED, finished_at=timezone.now())
    text = viewer.get(path, {"seen": "running"}).content.decode()
    assert "every 2s" not in text and 'id="run-buttons" hx-swap-oob' in text


def test_pages_need_the_permission_to_view_runs(viewer: Client, client: Client) -> None:
    run = make_ended_run()
    assert viewer.post(address(run, "now")).status_code == 405
    client.force_login(User.objects.create_user("petro", is_staff=True))
    answer = client.get(address(run, "now"))
    assert answer.status_code == 403 and answer["HX-Refresh"] == "true" and not answer.content


def test_links_need_the_permission_of_their_target(client: Client) -> None:
    person = User.objects.create_user("petro", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(person)
    run = add_details(make_ended_run())
    text = client.get(address(run)).content.decode()
    assert "fact_sales" in text and "factsales" not in text and reverse("admin:orchestration_reject_changelist") not in text


# --- The timeline ---


def make_tasks(count: int, state: State = State.SUCCEEDED, lasts: float = 1, every: float = 1, **fields: Any) -> list[Task]:
    """Return unsaved tasks of one lane that start `every` seconds apart."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    starts = [began + timedelta(seconds=every * number) for number in range(count)]
    tasks = [
        Task(
            pk=number,
            stage=Stage.EXTRACT,
            subject="fact_sales",
            state=state,
            started_at=start,
            finished_at=start + timedelta(seconds=lasts),
        )
        for number, start in enumerate(starts)
    ]
    for task in tasks:
        for name, value in fields.items():
            setattr(task, name, value)
    return tasks


def test_many_slices_are_merged_into_few_bars() -> None:
    (lane,) = draw_timeline(make_tasks(500, every=0.9)).lanes
    assert [(bar.left, bar.width) for bar in lane.bars] == [(0, WIDTH)] and (lane.tasks, lane.done) == (500, 500)
    tasks = make_tasks(500, every=0.9)
    tasks[250].state = State.FAILED
    (lane,) = draw_timeline(tasks).lanes
    assert len(lane.bars) <= 3 and lane.bars[-1].state == "failed" and lane.failed == 1
    assert 490 < lane.bars[-1].left < 510 and lane.bars[-1].width >= 4, "one of 500 is still visible"


def test_long_gaps_are_shortened() -> None:
    """Two seconds of work, an hour apart."""
    drawn = draw_timeline(make_tasks(2, every=3600))
    (lane,) = drawn.lanes
    assert drawn.shortened and [bar.width for bar in lane.bars] == [476, 476], "a second each; the gap takes a twentieth of both"
    assert lane.duration == timedelta(seconds=3601)
    assert not draw_timeline(make_tasks(2, every=1)).shortened


def test_unfinished_and_queued_tasks() -> None:
    now = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    (lane,) = draw_timeline(make_tasks(1, State.RUNNING, finished_at=None), now).lanes
    assert [(bar.left, bar.width) for bar in lane.bars] == [(0, WIDTH)] and lane.duration == timedelta(seconds=10)
    (lane,) = draw_timeline(make_tasks(3, State.QUEUED), now).lanes
    assert (lane.bars, lane.done, lane.duration) == ([], 0, None)
    (lane,) = draw_timeline(make_tasks(1, State.LOST, lasts=60, heartbeat_at=now - timedelta(seconds=5)), now).lanes
    assert lane.duration == timedelta(seconds=5), "to its last heartbeat"
    assert draw_timeline([], now).lanes == []
