"""Notices: one when a scheduled run fails, one when its schedule recovers."""

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
from tests.orchestration.harness import FakeBroker, ago, fresh, run_concurrently, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("schedules", "small_shop")]
DAILY = "techmarket-etl-daily"


@pytest.fixture
def sent_notices(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    monkeypatch.setattr(notices, "send_notice", result.append)
    return result


@pytest.fixture
def broken_transform(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Let every transform fail while the returned dict has `broken` set."""
    state, real = {"broken": True}, STAGES[Stage.TRANSFORM]

    def fail(task: Task, report: Report) -> Landed:
        if state["broken"]:
            raise BadData("Row 7 is green.")
        return real(task, report)

    monkeypatch.setitem(STAGES, Stage.TRANSFORM, fail)
    return state


def run_to_end(broker: FakeBroker, trigger: Trigger = Trigger.SCHEDULE) -> Run:
    """Start one more run, execute it to its end, and return it."""
    run = start_queued_run(trigger=trigger)
    if trigger == Trigger.SCHEDULE:
        ScheduledRun.objects.create(
            schedule_id=DAILY, scheduled_for=ago(minutes=60 - ScheduledRun.objects.count()), decision=Decision.RUN, run=run
        )
    broker.deliver_all()
    return fresh(run)


def test_each_failure_and_the_first_recovery_send_a_notice(
    broker: FakeBroker, sent_notices: list[dict[str, Any]], broken_transform: dict[str, bool]
) -> None:
    failed = [run_to_end(broker), run_to_end(broker)]
    assert [run.state for run in failed] == [State.FAILED] * 2
    assert [notice["event"] for notice in sent_notices] == ["failed", "failed"]
    assert sent_notices[0] == {
        "event": "failed",
        "text": f"{DAILY} failed: run {failed[0].pk}: Row 7 is green.",
        "schedule": DAILY,
        "run": failed[0].pk,
        "mode": "full",
        "status": "failed",
        "cause": "Row 7 is green.",
        "cause_kind": "data",
        "net_by_month": {},
        "net_by_cause": [],
        "finished_at": failed[0].finished_at.isoformat() if failed[0].finished_at else "",
    }
    since = Schedule.objects.get(name=DAILY).failing_since
    assert since and since < failed[1].created_at, "the first failure counts"
    broken_transform["broken"] = False
    succeeded = [run_to_end(broker), run_to_end(broker)]
    assert [(notice["event"], notice["run"]) for notice in sent_notices[2:]] == [("recovered", succeeded[0].pk)]
    assert Schedule.objects.get(name=DAILY).failing_since is None


def test_manual_run_sends_no_notice(broker: FakeBroker, sent_notices: list[dict[str, Any]], broken_transform: dict[str, bool]) -> None:
    assert run_to_end(broker, Trigger.CLI).state == State.FAILED
    broken_transform["broken"] = False
    assert run_to_end(broker).state == State.SUCCEEDED
    assert sent_notices == []


def test_successful_resume_sends_a_recovery_notice(
    broker: FakeBroker, sent_notices: list[dict[str, Any]], broken_transform: dict[str, bool]
) -> None:
    run = run_to_end(broker)
    broken_transform["broken"] = False
    api.resume_run(run.pk, queue=True)
    broker.deliver_all()
    assert [(notice["event"], notice["run"]) for notice in sent_notices] == [("failed", run.pk), ("recovered", run.pk)]


def test_lost_run_sends_one_notice(broker: FakeBroker, sent_notices: list[dict[str, Any]], settings: Settings) -> None:
    settings.ETL_ATTEMPTS = 1
    run = start_queued_run(trigger=Trigger.SCHEDULE)
    run.tasks.get().claim_for("dead:1")
    Task.objects.update(heartbeat_at=ago(seconds=31))
    run_concurrently(4, reap)
    assert [(notice["event"], notice["status"]) for notice in sent_notices] == [("failed", "lost")]


def test_cancelled_run_sends_no_notice(broker: FakeBroker, sent_notices: list[dict[str, Any]]) -> None:
    run = start_queued_run(trigger=Trigger.SCHEDULE)
    api.cancel_run(run.pk, "olena")
    assert fresh(run).state == State.CANCELLED and sent_notices == []


# --- Delivery ---


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


def test_notice_is_sent_and_logged(broker: FakeBroker, receiver: type[Receiver], broken_transform: dict[str, bool]) -> None:
    with structlog.testing.capture_logs() as logs:
        run = run_to_end(broker)
        broken_transform["broken"] = False
        run_to_end(broker)
    (kind, body), (_, second) = receiver.got
    assert kind == "application/json" and json.loads(body)["run"] == run.pk
    assert [json.loads(each)["event"] for each in (body, second)] == ["failed", "recovered"]
    notices = [line for line in logs if "schedule" in line]
    assert [(line["log_level"], line["schedule"]) for line in notices] == [("error", DAILY), ("info", DAILY)]
    assert notices[0]["event"] == f"{DAILY} failed: run {run.pk}: Row 7 is green."


@pytest.mark.parametrize("answer", [500, 404])
def test_receiver_error_does_not_affect_the_run(
    broker: FakeBroker, receiver: type[Receiver], broken_transform: dict[str, bool], answer: int
) -> None:
    receiver.answer = answer
    with structlog.testing.capture_logs() as logs:
        run = run_to_end(broker)
    assert (run.state, run.cause) == (State.FAILED, "Row 7 is green.") and len(receiver.got) == 1
    assert [line["log_level"] for line in logs[-2:]] == ["error", "warning"] and "canary" not in str(logs)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/canary", "http://canary.invalid/", "http://[canary/", "http://127.0.0.1:x/canary"])
def test_unreachable_receiver_does_not_affect_the_run(
    broker: FakeBroker, settings: Settings, broken_transform: dict[str, bool], url: str
) -> None:
    settings.NOTIFY_URL = url
    with structlog.testing.capture_logs() as logs:
        assert run_to_end(broker).cause == "Row 7 is green."
    assert logs[-1]["log_level"] == "warning" and "canary" not in str(logs)


@pytest.mark.parametrize("url", ["chat.example.com/hook", "file:///etc/passwd", "https://"])
def test_invalid_notify_url_is_refused(run_cli: Cli, url: str) -> None:
    result = run_cli("schedules", env={"NOTIFY_URL": url})
    assert result.returncode and "NOTIFY_URL: the address is not https://" in result.stderr
