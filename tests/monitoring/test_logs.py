"""Log lines are JSON with run, task and table, whichever library writes them, and hold no secrets or personal data."""

import json
import logging
import os
import random
import re
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from structlog.contextvars import merge_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.testing import capture_logs

from apps.etl.tables import TARGETS
from apps.orchestration.models import Stage, Task
from apps.orchestration.worker import loop
from techmarket.errors import BadData, Cancelled
from techmarket.logs import MASKED, MAX_LENGTH, Mask, build_logging
from tests.conftest import PASSED_ON, ROOT, Cli
from tests.orchestration.conftest import broker, small_shop  # noqa: F401  fixtures
from tests.orchestration.harness import FakeBroker, start_queued_run

in_process = pytest.mark.django_db(transaction=True, databases="__all__")
Lines = list[dict[str, Any]]
CANARY = "Kanarka-7Xq"
TIMEOUT_S = 300.0
KEY = "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"


def parse_lines(text: str) -> Lines:
    return [json.loads(line) for line in text.splitlines()]


def mask(text: str, secrets: tuple[str, ...] = ()) -> str:
    return Mask(secrets).mask_text(text)


# --- Masking ---


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to postgres://dwh_user:{CANARY}@dwh:5432/dwh",
        f"redis://:{CANARY}@redis:6379/0 is away",
        f"mysql://u:a/{CANARY}@b@orders-db/shop",
        f"GET https://{CANARY}@api.example.com/v1",
        f"password={CANARY} host=x",
        f"conninfo: password='{CANARY} x' host=x",
        f'{{"user": "x", "Password": "{CANARY}"}}',
        f"{{'api_key': '{CANARY}', 'a': 1}}",
        f"METRICS_TOKEN={CANARY}",
        f"ETL_READER_PASSWORD: {CANARY}",
        f"Authorization: Basic {CANARY}==",
        f"curl -H 'Authorization: Bearer {CANARY}.x.y'",
        f"sent Bearer {CANARY}",
        f"Cookie: sessionid={CANARY}; csrftoken={CANARY}",
        f"duplicate key ({CANARY}@example.com) exists",
        f"оля.{CANARY}+shop@пошта.укр.net",
    ],
)
def test_secret_is_masked(text: str) -> None:
    assert CANARY not in mask(text) and MASKED in mask(text)


PHONES = ["+380671234567", "+38 (067) 123-45-67", "380671234567", "0671234567", "067 123 45 67", "(067) 123-45-67", "+1 (202) 555-0143"]


@pytest.mark.parametrize("phone", PHONES)
def test_phone_is_masked(phone: str) -> None:
    text = mask(f"customer 17: '{phone}' is no phone")
    assert not re.search(r"\d{3}", text) and text.startswith("customer 17: ") and text.endswith(" is no phone")


@pytest.mark.parametrize(
    "text",
    [
        "run 17: task 4102 of fact_sales [20000, 40000) took 12.35 s, 1 234 567 rows, 2026-11-24 07:04:22 UTC",
        "2026-11-24T07:04:22.123456+00:00 2026-11-24T07:04:22.123456Z 3e5f0671-2345-4671-8090-067123456789",
        "control database (127.0.0.1:5432) refuses user 'control_user'. Correct CONTROL_DB_URL.",
        "worker-7c9f:1234 stopped sending heartbeats at 2026-11-24 07:04:22 UTC. Nothing was published.",
        "Task techmarket.extract[0671a345-0671-4234-8567-067123456789] succeeded in 0.0671234567s: None",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert mask(text) == text


def test_secrets_from_settings_are_masked_anywhere() -> None:
    """Only the settings tell some of them from ordinary words. Very short ones are left, because they would match anywhere."""
    text = mask("the hook /T0/abcdef says p%40ss%2Fword, p@ss/word; ab is not hidden", ("/T0/abcdef", "p@ss/word", "ab", ""))
    assert text == f"the hook {MASKED} says {MASKED}, {MASKED}; ab is not hidden"


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "new_password", "api_key", "apiKey", "Set-Cookie", "token", "client_secret", "email", "phone"]
)
def test_value_of_a_sensitive_key_is_masked_at_any_depth(name: str) -> None:
    event = Mask(())(
        None, "info", {"event": "x", name: CANARY, "raw": [{name: [CANARY, 5], "rows": 7, "empty": None}], "left": {name: None}}
    )
    assert event == {"event": "x", name: MASKED, "raw": [{name: MASKED, "rows": 7, "empty": None}], "left": {name: None}}


def test_masking_is_complete_and_fast() -> None:
    """Random secrets in random text, and lines built to make the patterns slow."""
    generator = random.Random(6)
    letters = string.ascii_letters + string.digits + "!$%^*()-_+~.Їґ"
    for _ in range(500):
        secret = CANARY + "".join(generator.choices(letters, k=generator.randint(4, 30)))
        before = "".join(generator.choices(string.printable, k=generator.randint(0, 40)))
        for shape in ("mysql://user:{}@host/db", " password={}", ' "token": "{}"', " Bearer {}", "{}"):
            assert CANARY not in mask(before + " " + shape.format(secret), (secret,) if shape == "{}" else ()), (before, shape, secret)
    for slow in ("a" * 200_000, "://" * 50_000, "password" * 20_000, "1-" * 90_000, "a@" * 90_000, "a." * 90_000, "://a:" * 40_000):
        start = time.thread_time()  # of this thread alone, whatever else the machine does
        assert len(mask(slow)) <= MAX_LENGTH + 10
        assert time.thread_time() - start < 1, slow[:20]


# --- Lines ---


def format_record(record: logging.LogRecord, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    formatter = build_logging("json", [], secrets)["formatters"]["line"]
    formatted = ProcessorFormatter(**{name: value for name, value in formatter.items() if name != "()"})
    text = formatted.format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_traceback_is_one_line_and_masked() -> None:
    try:
        raise ValueError(f"postgres://u:{CANARY}@h/d\nand a second line for оля@example.com")
    except ValueError:
        record = logging.LogRecord(
            "celery.app.trace", logging.ERROR, "x.py", 1, "Task %s raised: %s", ("t", f"token={CANARY}"), sys.exc_info()
        )
    line = format_record(record)
    assert (line["level"], line["logger"], line["event"]) == ("error", "celery.app.trace", f"Task t raised: token={MASKED}")
    assert line["exception"].startswith("Traceback") and CANARY not in str(line) and "example" not in str(line)


@in_process
def test_run_in_workers_writes_a_line_per_task_and_table(small_shop: dict[str, int], broker: FakeBroker) -> None:  # noqa: F811
    run = start_queued_run()
    broker.sent.append(run.tasks.get().pk)
    with capture_logs([merge_contextvars]) as lines:
        broker.deliver_all()
    tasks = {task.pk: task for task in run.tasks.all()}
    done = [line for line in lines if line["event"] == "task succeeded"]
    assert [line["event"] for line in lines][-1] == "run succeeded" and {line["run"] for line in lines} == {run.pk}
    assert {line["log_level"] for line in lines} == {"info"}
    assert len(lines) == len(tasks) + len(TARGETS) + 1, "one per task, one per table, one for the run, and none per row"
    assert sum(line["loaded"] for line in done if "loaded" in line) > 0
    assert {line["table"] for line in lines if line["event"] == "table written"} == set(TARGETS)


@in_process
def test_lines_within_a_task_name_it(
    small_shop: dict[str, int],  # noqa: F811
    broker: FakeBroker,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Including those of libraries and the line with the cause of a failure."""
    lines: Lines = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(format_record(record))

    def fail(task: Task, report: object) -> None:
        logging.getLogger("psycopg").warning("something")
        raise BadData(f"customer {CANARY}@example.com is broken")

    run = start_queued_run()
    broker.sent.append(run.tasks.get().pk)
    task = broker.deliver_until(Stage.TRANSFORM)
    monkeypatch.setitem(loop.STAGES, Stage.TRANSFORM, fail)
    recorder = Recorder()
    for name in settings.RUN_LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]
    for name in (*settings.RUN_LOGGERS, "psycopg"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [recorder])
    broker.deliver_all()
    library, failed, run_failed = lines
    assert library | {"run": run.pk, "task": task.pk, "stage": "transform", "table": task.subject} == library
    assert (
        failed | {"event": "task failed", "level": "error", "run": run.pk, "task": task.pk, "table": task.subject, "cause_kind": "data"}
        == failed
    )
    assert run_failed["event"] == "run failed" and run_failed["cause"] == f"customer {MASKED} is broken"
    assert list(failed)[:6] == ["timestamp", "level", "event", "logger", "run", "task"]


@in_process
def test_cancelled_run_is_logged_at_info(small_shop: dict[str, int], broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def cancel(task: Task, report: object) -> None:
        raise Cancelled("Cancelled by olena. Nothing was published.")

    monkeypatch.setitem(loop.STAGES, Stage.PLAN, cancel)
    broker.sent.append(start_queued_run().tasks.get().pk)
    with capture_logs() as lines:
        broker.deliver_all()
    assert [(line["event"], line["log_level"]) for line in lines] == [("task cancelled", "info"), ("run cancelled", "info")]


# --- Processes ---


def test_command_logs_a_run_for_a_collector_and_not_on_a_console(run_cli: Cli) -> None:
    assert run_cli("migrate_all", "-v", "0").returncode == 0
    assert run_cli("generate_data", "--orders", "50").returncode == 0
    console = run_cli("run_etl", "--json")
    assert console.returncode == 0 and "succeeded" not in console.stderr
    collector = run_cli("run_etl", "--json", env={"LOG_FORMAT": "json"})
    assert json.loads(collector.stdout)["status"] == "succeeded"
    lines = parse_lines(collector.stderr)
    assert lines[-1]["event"] == "run succeeded" and {line["level"] for line in lines} == {"info"}
    assert {line["table"] for line in lines if line["event"] == "table written"} == set(TARGETS)


@pytest.fixture
def server(tmp_path: Path, run_cli: Cli) -> Iterator[Any]:
    """Start a program as the image does in production, end it once `until` is true of its log, and return its lines."""
    assert run_cli("migrate_all", "-v", "0").returncode == 0
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, until: Any) -> Lines:
        variables = {
            "VAR_DIR": str(tmp_path),
            "ENV_FILE": os.devnull,
            "DEBUG": "false",
            "ALLOWED_HOSTS": "etl.example.com",
            "SECRET_KEY": KEY,
        }
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | variables
        command, log = [str(Path(sys.executable).parent / words[0]), *words[1:]], tmp_path / "stderr"
        with log.open("w") as stderr:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=stderr, stdout=subprocess.DEVNULL, text=True)
        started.append(process)
        deadline = time.monotonic() + TIMEOUT_S
        while not until(log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_S)
        return parse_lines(log.read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_production_servers_log_json_and_answer_probes(server: Any) -> None:
    """Probes are answered over plain HTTP and whatever their Host header; other requests are redirected to HTTPS."""
    worker = ("celery", "-A", "techmarket", "worker", "--pool", "solo", "--loglevel", "info", "--without-gossip", "--without-mingle")
    lines = server(*worker, until=lambda text: " ready." in text)
    assert any(line["logger"].startswith("celery") and line["level"] == "info" for line in lines)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = ("gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "techmarket.wsgi")
    lines = server(*web, until=lambda text: "Listening at" in text and serves(port))
    assert any(line["logger"] == "gunicorn.error" and "Listening at" in line["event"] for line in lines)
    assert any(line["logger"].startswith("django.") and "Invalid HTTP_HOST" in line["event"] for line in lines)
    assert CANARY not in str(lines)


def serves(port: int) -> bool:
    assert status(port, "/healthz", "10.1.2.3:8000") == 200
    assert status(port, "/readyz?only=control&only=dwh", "10.1.2.3:8000") == 200
    assert status(port, "/metrics", "10.1.2.3:8000") == 200, "from the same machine, without a token"
    assert status(port, f"/?mail={CANARY}@example.com", f"{CANARY}@example.com") == 400
    return status(port, "/admin/login/", "etl.example.com") == 301


def status(port: int, path: str, host: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
