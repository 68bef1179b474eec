"""Log lines: JSON with run, task and table, from whoever writes them; and nothing in them that nobody should read."""

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
from structlog.contextvars import merge_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.testing import capture_logs

from apps.etl.tables import TARGETS
from apps.orchestration.models import Stage, Task
from apps.orchestration.worker import loop
from techmarket.errors import BadData, Cancelled
from techmarket.logs import LONGEST, MASKED, Mask, configuration
from tests.conftest import PASSED_ON, ROOT, Cli
from tests.orchestration.conftest import post, small_shop  # noqa: F401  fixtures
from tests.orchestration.post import Post, asked

in_process = pytest.mark.django_db(transaction=True, databases="__all__")
Lines = list[dict[str, Any]]
CANARY = "Kanarka-7Xq"
PATIENCE = 40.0
KEY = "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"


def lines(text: str) -> Lines:
    """Every line is an object of its own."""
    return [json.loads(line) for line in text.splitlines()]


def masked(words: str, secrets: tuple[str, ...] = ()) -> str:
    return Mask(secrets).text(words)


# --- Masking ---


@pytest.mark.parametrize(
    "words",
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
def test_secret_in_words(words: str) -> None:
    assert CANARY not in masked(words) and MASKED in masked(words)


PHONES = ["+380671234567", "+38 (067) 123-45-67", "380671234567", "0671234567", "067 123 45 67", "(067) 123-45-67", "+1 (202) 555-0143"]


@pytest.mark.parametrize("phone", PHONES)
def test_phone_in_words(phone: str) -> None:
    said = masked(f"customer 17: '{phone}' is no phone")
    assert not re.search(r"\d{3}", said) and said.startswith("customer 17: ") and said.endswith(" is no phone")


@pytest.mark.parametrize(
    "words",
    [
        "run 17: task 4102 of fact_sales [20000, 40000) took 12.35 s, 1 234 567 rows, 2026-11-24 07:04:22 UTC",
        "2026-11-24T07:04:22.123456+00:00 2026-11-24T07:04:22.123456Z 3e5f0671-2345-4671-8090-067123456789",
        "control database (127.0.0.1:5432) refuses user 'control_user'. Correct CONTROL_DB_URL.",
        "worker-7c9f:1234 stopped sending heartbeats at 2026-11-24 07:04:22 UTC. Nothing was published.",
        "Task techmarket.extract[0671a345-0671-4234-8567-067123456789] succeeded in 0.0671234567s: None",
    ],
)
def test_plain_words_stay(words: str) -> None:
    assert masked(words) == words


def test_own_secrets_wherever_they_stand() -> None:
    """Some are no more than a word: nothing but the settings tells them from one. Too short ones would be found in anything."""
    said = masked("the hook /T0/abcdef says p%40ss%2Fword, p@ss/word; ab is not hidden", ("/T0/abcdef", "p@ss/word", "ab", ""))
    assert said == f"the hook {MASKED} says {MASKED}, {MASKED}; ab is not hidden"


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "new_password", "api_key", "apiKey", "Set-Cookie", "token", "client_secret", "email", "phone"]
)
def test_value_of_a_telling_name_at_any_depth(name: str) -> None:
    event = Mask(())(
        None, "info", {"event": "x", name: CANARY, "raw": [{name: [CANARY, 5], "rows": 7, "empty": None}], "left": {name: None}}
    )
    assert event == {"event": "x", name: MASKED, "raw": [{name: MASKED, "rows": 7, "empty": None}], "left": {name: None}}


def test_anything_is_masked_in_little_time() -> None:
    """Secrets of any letters between any others, and lines made to be slow."""
    dice = random.Random(6)
    letters = string.ascii_letters + string.digits + "!$%^*()-_+~.Їґ"
    for _ in range(500):
        secret = CANARY + "".join(dice.choices(letters, k=dice.randint(4, 30)))
        before = "".join(dice.choices(string.printable, k=dice.randint(0, 40)))
        for shape in ("mysql://user:{}@host/db", " password={}", ' "token": "{}"', " Bearer {}", "{}"):
            assert CANARY not in masked(before + " " + shape.format(secret), (secret,) if shape == "{}" else ()), (before, shape, secret)
    for slow in ("a" * 200_000, "://" * 50_000, "password" * 20_000, "1-" * 90_000, "a@" * 90_000, "a." * 90_000, "://a:" * 40_000):
        began = time.perf_counter()
        assert len(masked(slow)) <= LONGEST + 10
        assert time.perf_counter() - began < 1, slow[:20]


# --- Lines ---


def written(record: logging.LogRecord, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    formatter = configuration("json", secrets)["formatters"]["line"]
    made = ProcessorFormatter(**{name: value for name, value in formatter.items() if name != "()"})
    text = made.format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_traceback_is_one_line_and_masked() -> None:
    try:
        raise ValueError(f"postgres://u:{CANARY}@h/d\nand a second line for оля@example.com")
    except ValueError:
        record = logging.LogRecord(
            "celery.app.trace", logging.ERROR, "x.py", 1, "Task %s raised: %s", ("t", f"token={CANARY}"), sys.exc_info()
        )
    line = written(record)
    assert (line["level"], line["logger"], line["event"]) == ("error", "celery.app.trace", f"Task t raised: token={MASKED}")
    assert line["exception"].startswith("Traceback") and CANARY not in str(line) and "example" not in str(line)


@in_process
def test_run_at_the_workers_line_by_line(small_shop: dict[str, int], post: Post) -> None:  # noqa: F811
    run = asked()
    post.sent.append(run.tasks.get().pk)
    with capture_logs([merge_contextvars]) as said:
        post.work()
    tasks = {task.pk: task for task in run.tasks.all()}
    done = [line for line in said if line["event"] == "task succeeded"]
    assert [line["event"] for line in said][-1] == "run succeeded" and {line["run"] for line in said} == {run.pk}
    assert {line["log_level"] for line in said} == {"info"}
    assert len(said) == len(tasks) + len(TARGETS) + 1, "a line for each task, one for each table, one for the run: none for a row"
    assert sum(line["loaded"] for line in done if "loaded" in line) > 0
    assert {line["table"] for line in said if line["event"] == "table written"} == set(TARGETS)


@in_process
def test_lines_of_a_task_name_it_whoever_writes_them(
    small_shop: dict[str, int],  # noqa: F811
    post: Post,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also a library's, and the line that says why it failed."""
    heard: Lines = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(written(record))

    def broken(task: Task, report: object) -> None:
        logging.getLogger("psycopg").warning("something")
        raise BadData(f"customer {CANARY}@example.com is broken")

    run = asked()
    post.sent.append(run.tasks.get().pk)
    task = post.work_until(Stage.TRANSFORM)
    monkeypatch.setitem(loop.STAGES, Stage.TRANSFORM, broken)
    ear, log = Ear(), logging.getLogger("apps.orchestration.worker.loop")
    monkeypatch.setattr(log, "level", logging.INFO)
    log.manager._clear_cache()  # type: ignore[attr-defined]
    for name in ("apps.orchestration.worker.loop", "psycopg"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [ear])
    post.work()
    library, failed, ended = heard
    assert library | {"run": run.pk, "task": task.pk, "stage": "transform", "table": task.subject} == library
    assert (
        failed | {"event": "task failed", "level": "error", "run": run.pk, "task": task.pk, "table": task.subject, "cause_kind": "data"}
        == failed
    )
    assert ended["event"] == "run failed" and ended["cause"] == f"customer {MASKED} is broken"
    assert list(failed)[:6] == ["timestamp", "level", "event", "logger", "run", "task"]


@in_process
def test_cancelled_run_is_no_error(small_shop: dict[str, int], post: Post, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def cancelled(task: Task, report: object) -> None:
        raise Cancelled("Cancelled by olena. Nothing was published.")

    monkeypatch.setitem(loop.STAGES, Stage.PLAN, cancelled)
    post.sent.append(asked().tasks.get().pk)
    with capture_logs() as said:
        post.work()
    assert [(line["event"], line["log_level"]) for line in said] == [("task cancelled", "info"), ("run cancelled", "info")]


# --- Processes ---


def test_command_tells_a_collector_and_not_a_person(run_cli: Cli) -> None:
    assert run_cli("migrate_all", "-v", "0").returncode == 0
    assert run_cli("generate_data", "--orders", "50").returncode == 0
    person = run_cli("run_etl", "--json")
    assert person.returncode == 0 and "succeeded" not in person.stderr
    collector = run_cli("run_etl", "--json", env={"LOG_FORMAT": "json"})
    assert json.loads(collector.stdout)["status"] == "succeeded"
    said = lines(collector.stderr)
    assert said[-1]["event"] == "run succeeded" and {line["level"] for line in said} == {"info"}
    assert {line["table"] for line in said if line["event"] == "table written"} == set(TARGETS)


@pytest.fixture
def server(tmp_path: Path, run_cli: Cli) -> Iterator[Any]:
    """Starts a program of ours as the image does in production; gives what it has said on stderr once it was ended."""
    assert run_cli("migrate_all", "-v", "0").returncode == 0
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, until: Any) -> Lines:
        own = {"VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull, "DEBUG": "false", "ALLOWED_HOSTS": "etl.example.com", "SECRET_KEY": KEY}
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | own
        command, log = [str(Path(sys.executable).parent / words[0]), *words[1:]], tmp_path / "stderr"
        with log.open("w") as stderr:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=stderr, stdout=subprocess.DEVNULL, text=True)
        started.append(process)
        give_up = time.monotonic() + PATIENCE
        while not until(log.read_text()):
            assert process.poll() is None and time.monotonic() < give_up, log.read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        return lines(log.read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_production_servers_log_as_ours_and_answer_probes(server: Any) -> None:
    """json is their default; a kubelet's Host header and plain HTTP get an answer, everybody else the redirect."""
    worker = ("celery", "-A", "techmarket", "worker", "--pool", "solo", "--loglevel", "info", "--without-gossip", "--without-mingle")
    said = server(*worker, until=lambda text: " ready." in text)
    assert any(line["logger"].startswith("celery") and line["level"] == "info" for line in said)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = ("gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "techmarket.wsgi")
    said = server(*web, until=lambda text: "Listening at" in text and answers(port))
    assert any(line["logger"] == "gunicorn.error" and "Listening at" in line["event"] for line in said)
    assert any(line["logger"].startswith("django.") and "Invalid HTTP_HOST" in line["event"] for line in said)
    assert CANARY not in str(said)


def answers(port: int) -> bool:
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
