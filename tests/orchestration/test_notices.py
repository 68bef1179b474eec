"""The word that goes out when a scheduled run fails, and when its schedule recovers."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pytest_django.fixtures import Settings

from apps.monitoring import notices
from apps.orchestration import api
from apps.orchestration.models import Decision, Run, Schedule, ScheduledRun, Stage, State, Task, Trigger
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from techmarket.errors import BadData
from tests.conftest import Cli
from tests.orchestration.harness import FakeBroker, ago, asked, at_once, fresh

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("schedules", "small_shop")]
DAILY = "techmarket-etl-daily"


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(notices, "send_notice", said.append)
    return said


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """While it says so, no transform succeeds."""
    state, real = {"broken": True}, STAGES[Stage.TRANSFORM]

    def fail(task: Task, report: Report) -> Landed:
        if state["broken"]:
            raise BadData("Row 7 is green.")
        return real(task, report)

    monkeypatch.setitem(STAGES, Stage.TRANSFORM, fail)
    return state


def scheduled(broker: FakeBroker, trigger: Trigger = Trigger.SCHEDULE) -> Run:
    """One more run, at its end."""
    run = asked(trigger=trigger)
    if trigger == Trigger.SCHEDULE:
        ScheduledRun.objects.create(
            schedule_id=DAILY, scheduled_for=ago(minutes=60 - ScheduledRun.objects.count()), decision=Decision.RUN, run=run
        )
    broker.work()
    return fresh(run)


def test_failure_and_recovery(broker: FakeBroker, notes: list[dict[str, Any]], broken: dict[str, bool]) -> None:
    failed = [scheduled(broker), scheduled(broker)]
    assert [run.state for run in failed] == [State.FAILED] * 2
    assert [note["event"] for note in notes] == ["failed", "failed"]
    assert notes[0] == {
        "event": "failed",
        "text": f"{DAILY} failed: run {failed[0].pk}: Row 7 is green.",
        "schedule": DAILY,
        "run": failed[0].pk,
        "mode": "full",
        "status": "failed",
        "cause": "Row 7 is green.",
        "cause_kind": "data",
        "finished_at": failed[0].finished_at.isoformat() if failed[0].finished_at else "",
    }
    since = Schedule.objects.get(name=DAILY).failing_since
    assert since and since < failed[1].created_at, "since the first of them"
    broken["broken"] = False
    good = [scheduled(broker), scheduled(broker)]
    assert [(note["event"], note["run"]) for note in notes[2:]] == [("recovered", good[0].pk)]
    assert Schedule.objects.get(name=DAILY).failing_since is None


def test_runs_that_people_ask_for_are_told_to_them(broker: FakeBroker, notes: list[dict[str, Any]], broken: dict[str, bool]) -> None:
    assert scheduled(broker, Trigger.CLI).state == State.FAILED
    broken["broken"] = False
    assert scheduled(broker).state == State.SUCCEEDED
    assert notes == []


def test_resumed_run_is_a_recovery(broker: FakeBroker, notes: list[dict[str, Any]], broken: dict[str, bool]) -> None:
    run = scheduled(broker)
    broken["broken"] = False
    api.resume_run(run.pk, queue=True)
    broker.work()
    assert [(note["event"], note["run"]) for note in notes] == [("failed", run.pk), ("recovered", run.pk)]


def test_lost_run_is_told_once(broker: FakeBroker, notes: list[dict[str, Any]], settings: Settings) -> None:
    settings.ETL_ATTEMPTS = 1
    run = asked(trigger=Trigger.SCHEDULE)
    run.tasks.get().claim_for("dead:1")
    Task.objects.update(heartbeat_at=ago(seconds=31))
    at_once(4, reap)
    assert [(note["event"], note["status"]) for note in notes] == [("failed", "lost")]


def test_cancelled_run_is_no_news(broker: FakeBroker, notes: list[dict[str, Any]]) -> None:
    run = asked(trigger=Trigger.SCHEDULE)
    api.cancel_run(run.pk, "olena")
    assert fresh(run).state == State.CANCELLED and notes == []


# --- On its way ---


class Receiver(http.server.BaseHTTPRequestHandler):
    got: list[tuple[str, bytes]] = []
    answer = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.headers["Content-Type"], body))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def receiver(settings: Settings) -> Iterator[type[Receiver]]:
    kind = type("Fresh", (Receiver,), {"got": []})
    with http.server.HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        settings.NOTIFY_URL = f"http://127.0.0.1:{server.server_port}/hook?token=canary"
        yield kind
        server.shutdown()
        thread.join()


def test_notice_is_posted_and_logged(broker: FakeBroker, receiver: type[Receiver], broken: dict[str, bool]) -> None:
    with structlog.testing.capture_logs() as logs:
        run = scheduled(broker)
        broken["broken"] = False
        scheduled(broker)
    (kind, body), (_, second) = receiver.got
    assert kind == "application/json" and json.loads(body)["run"] == run.pk
    assert [json.loads(each)["event"] for each in (body, second)] == ["failed", "recovered"]
    notices = [line for line in logs if "schedule" in line]
    assert [(line["log_level"], line["schedule"]) for line in notices] == [("error", DAILY), ("info", DAILY)]
    assert notices[0]["event"] == f"{DAILY} failed: run {run.pk}: Row 7 is green."


@pytest.mark.parametrize("answer", [500, 404])
def test_receiver_that_refuses_changes_nothing(broker: FakeBroker, receiver: type[Receiver], broken: dict[str, bool], answer: int) -> None:
    receiver.answer = answer
    with structlog.testing.capture_logs() as logs:
        run = scheduled(broker)
    assert (run.state, run.cause) == (State.FAILED, "Row 7 is green.") and len(receiver.got) == 1
    assert [line["log_level"] for line in logs[-2:]] == ["error", "warning"] and "canary" not in str(logs)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/canary", "http://canary.invalid/", "http://[canary/", "http://127.0.0.1:x/canary"])
def test_receiver_that_is_away_changes_nothing(broker: FakeBroker, settings: Settings, broken: dict[str, bool], url: str) -> None:
    settings.NOTIFY_URL = url
    with structlog.testing.capture_logs() as logs:
        assert scheduled(broker).cause == "Row 7 is green."
    assert logs[-1]["log_level"] == "warning" and "canary" not in str(logs)


@pytest.mark.parametrize("url", ["chat.example.com/hook", "file:///etc/passwd", "https://"])
def test_address_that_is_none(run_cli: Cli, url: str) -> None:
    said = run_cli("schedules", env={"NOTIFY_URL": url})
    assert said.returncode and "NOTIFY_URL: the address is not https://" in said.stderr
