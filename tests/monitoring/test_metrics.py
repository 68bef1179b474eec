"""/metrics gives the same numbers as the overview page, `run_etl --json` and the ledger, and answers while a database is down."""

from collections.abc import Iterator

import pytest
from django.db import connections
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django.fixtures import Settings

from apps.console.groups import VIEWER
from apps.demo import changes
from apps.orchestration import api
from apps.orchestration.models import CheckResult, Mode, Reject, RowCount, Run, Schedule, ScheduledRun, Stage, State, Task
from apps.orchestration.results import WRITTEN, document
from apps.orchestration.schedules import set_enabled
from apps.warehouse.loads import Load
from tests.console.conftest import SignIn, empty_cache, loaded_run, sign_in  # noqa: F401  fixtures
from tests.orchestration.conftest import broker, fast_heartbeat, schedules  # noqa: F401  fixtures
from tests.orchestration.harness import FakeBroker, start_queued_run

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
PROMETHEUS = {"SERVER_NAME": "web", "SERVER_PORT": "8000", "REMOTE_ADDR": "10.1.0.9"}
MAX_QUERIES = 26  # of the control database, however many runs it has
Labels = dict[str, str]


class Scrape:
    """The samples of one scrape."""

    def __init__(self, client: Client | None = None):
        response = (client or Client()).get("/metrics")
        assert response.status_code == 200
        families = text_string_to_metric_families(response.content.decode())
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (found,) = [sample.value for sample in self.samples if sample.name == f"techmarket_{name}" and sample.labels == labels]
        return found

    def by(self, name: str, label: str) -> dict[str, float]:
        return {sample.labels[label]: sample.value for sample in self.samples if sample.name == f"techmarket_{name}"}

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}


def test_metrics_equal_page_json_and_ledger(loaded_run: Run, sign_in: SignIn) -> None:  # noqa: F811
    scrape = Scrape()
    page = sign_in(VIEWER).get("/admin/").context
    result = document(loaded_run)

    for table, row in result["tables"].items():
        ledger_rows = RowCount.objects.filter(run=loaded_run, table=table)
        for kind in WRITTEN:
            assert scrape.value("last_run_rows", table=table, kind=kind) == row[kind] == sum(ledger_rows.values_list(kind, flat=True))
    for table, row in result["sources"].items():
        assert [scrape.value("last_run_rows", table=table, kind=kind) for kind in row] == list(row.values())

    tables = result["tables"].values()
    written = sum(row[kind] for row in tables for kind in ("inserted", "updated", "deleted", "derived"))
    assert scrape.value("last_run_written_rows") == written == page["last"].tally.written > 0
    rejected = Reject.objects.filter(run=loaded_run).count()
    assert (
        scrape.value("last_run_rejected_rows")
        == rejected
        == page["last"].tally.rejected
        == sum(row["rows"] for row in result["rejects"])
        == 1
    )
    assert scrape.value("rejects_waiting") == page["rejects"].count == 1
    assert scrape.by("rejects_waiting_uah", "of") == {"lines": float(page["rejects"].net), "payments": float(page["rejects"].paid)}

    checks = scrape.by("last_run_checks", "result")
    assert checks["passed"] == page["last"].tally.passed == CheckResult.objects.filter(run=loaded_run, passed=True).count() > 0
    assert sum(checks.values()) == len(result["checks"])

    assert scrape.value("last_run_number") == result["run"] == page["last"].run.pk == loaded_run.pk
    assert scrape.value("last_run_duration_seconds") == result["seconds"] == page["last"].run.seconds
    assert {state for state, is_set in scrape.by("last_run", "state").items() if is_set} == {result["status"]}
    assert scrape.value("data_as_of_timestamp_seconds") == page["fresh"].as_of.timestamp() == Load.objects.get().high_water_mark.timestamp()
    assert scrape.value("data_missed_runs") == page["fresh"].missed == 0


def test_runs_stages_and_modes(loaded_run: Run) -> None:  # noqa: F811
    changes.apply(15, 1)
    incremental = api.run("incremental")
    api.run("full", dry_run=True)
    scrape = Scrape()
    assert {state: count for state, count in scrape.by("runs", "state").items() if count} == {State.SUCCEEDED: 2}
    stamps = scrape.by("last_success_timestamp_seconds", "mode")
    assert stamps == {run.mode: run.finished_at.timestamp() for run in (loaded_run, incremental) if run.finished_at}
    assert scrape.by("last_success_duration_seconds", "mode") == {Mode.FULL: loaded_run.seconds, Mode.INCREMENTAL: incremental.seconds}
    assert set(scrape.by("last_run_stage_seconds", "stage")) == set(incremental.tasks.values_list("stage", flat=True)) > {"extract", "load"}
    assert scrape.by("last_run_tasks", "state")[State.SUCCEEDED] == Task.objects.filter(run=incremental).count()
    assert scrape.value("active_runs") == 0 and set(scrape.by("tasks", "state").values()) == {0}


def test_queued_tasks_and_a_task_whose_worker_died(loaded_run: Run, broker: FakeBroker) -> None:  # noqa: F811
    run = start_queued_run()
    broker.sent.append(run.tasks.get().pk)
    broker.deliver_until(Stage.EXTRACT)
    task = run.tasks.filter(stage=Stage.EXTRACT).earliest("pk")
    assert task.claim_for("elsewhere:1")
    Task.objects.filter(pk=task.pk).update(heartbeat_at=loaded_run.created_at.replace(year=2020))
    scrape = Scrape()
    tasks = scrape.by("tasks", "state")
    assert scrape.value("active_runs") == 1 and 0 <= scrape.value("active_run_age_seconds") < 60
    assert scrape.value("active_run_limit_seconds") == 14_400
    assert (tasks["queued"], tasks["running"]) == (run.tasks.filter(state=State.QUEUED).count(), 1)
    assert scrape.value("silent_tasks") == 1
    assert scrape.value("last_run_number") == loaded_run.pk


def test_scheduled_run(loaded_run: Run, broker: FakeBroker) -> None:  # noqa: F811
    set_enabled("techmarket-etl-weekly-full", enabled=False)
    ScheduledRun.objects.create(
        schedule=Schedule.objects.get(pk="techmarket-etl-daily"), scheduled_for=loaded_run.created_at, decision="run", run=loaded_run
    )
    scrape = Scrape()
    assert scrape.by("schedule_enabled", "schedule") == {"techmarket-etl-daily": 1, "techmarket-etl-weekly-full": 0}
    assert loaded_run.finished_at
    assert scrape.by("schedule_last_success_timestamp_seconds", "schedule") == {"techmarket-etl-daily": loaded_run.finished_at.timestamp()}


# --- A database is down ---


@pytest.fixture
def broken_addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()


def break_address(monkeypatch: pytest.MonkeyPatch, alias: str) -> None:
    """Make the database unreachable for every thread."""
    address = {"HOST": "127.0.0.1", "PORT": "1"} if connections[alias].vendor == "postgresql" else {"NAME": "/dev/null/canary"}
    connections[alias].close()
    for name, value in address.items():
        monkeypatch.setitem(connections.databases[alias], name, value)
        monkeypatch.setitem(connections[alias].settings_dict, name, value)


def test_warehouse_is_down(loaded_run: Run, broken_addresses: pytest.MonkeyPatch) -> None:  # noqa: F811
    break_address(broken_addresses, "dwh")
    scrape = Scrape()
    assert scrape.by("up", "part") == {"control": 1, "dwh": 0, "broker": 1}
    assert scrape.value("last_run_number") == loaded_run.pk
    assert "techmarket_data_as_of_timestamp_seconds" not in scrape.names()


def test_control_database_is_down(broken_addresses: pytest.MonkeyPatch) -> None:
    break_address(broken_addresses, "default")
    scrape = Scrape()
    assert scrape.by("up", "part") == {"control": 0, "dwh": 1, "broker": 1} and scrape.names() == {"techmarket_up"}


def test_query_count_does_not_grow(loaded_run: Run, django_assert_max_num_queries: object) -> None:  # noqa: F811
    Run.objects.bulk_create([Run(mode="full", trigger="cli", requested_by="x", state=State.SUCCEEDED) for _ in range(50)])
    with django_assert_max_num_queries(MAX_QUERIES):  # type: ignore[operator]
        Scrape()


# --- Access ---


def test_token_is_required(settings: Settings) -> None:
    settings.METRICS_TOKEN = "canary-of-sixteen"
    for wrong in ({}, {"Authorization": "Bearer canary"}, {"Authorization": "Bearer "}, {"Authorization": "Basic canary-of-sixteen"}):
        response = Client(**PROMETHEUS).get("/metrics", headers=wrong)
        assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer") and b"techmarket" not in response.content
    right = Client(**PROMETHEUS, headers={"Authorization": "Bearer canary-of-sixteen"})
    assert right.get("/metrics").status_code == 200
    response = right.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert response["Content-Type"].startswith("application/openmetrics-text") and response.content.endswith(b"# EOF\n")
    assert Client(**PROMETHEUS).post("/metrics").status_code == 405


def test_without_a_token_only_local_requests_are_served(settings: Settings) -> None:
    settings.METRICS_TOKEN, settings.SECURE_SSL_REDIRECT = "", True
    response = Client(**PROMETHEUS).get("/metrics")
    assert response.status_code == 403 and b"METRICS_TOKEN" in response.content
    assert Client(SERVER_NAME="10.0.0.1").get("/metrics").status_code == 200
    assert Client().get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403
    assert Client(REMOTE_ADDR="").get("/metrics").status_code == 403
    settings.DEBUG = True
    assert Client(**PROMETHEUS).get("/metrics").status_code == 200
