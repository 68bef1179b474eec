"""`manage.py ping`: every part that is well, and every way for one of them not to be; in bounded time, one sentence for each."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from django.conf import settings

from tests.conftest import PASSED_ON, ROOT, Cli
from tests.failures.conftest import ON_SERVERS, SECRET, Shop, one_sentence
from tests.failures.test_databases import listening

WAIT = 300.0


def parts(result: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    document = json.loads(result.stdout)
    assert document["well"] == (result.returncode == 0) == (result.stderr == "")
    return {part["name"]: part for part in document["parts"]}


def test_databases_that_are_well(shop: Shop) -> None:
    result = shop.run("ping", "--databases", "--json")
    assert result.returncode == 0, result.stderr
    found = parts(result)
    assert list(found) == list(settings.DATABASES)
    for alias, part in found.items():
        kind = ("MariaDB ", "MySQL ") if alias in settings.SOURCES else ("PostgreSQL ",)
        assert part["version"].startswith(kind if ON_SERVERS else "SQLite ")
        assert 0 <= part["latency_ms"] < 5000 and part["migrated"] and part["rights"] == "write" and not part["trouble"]
    table = shop.run("ping", "--databases")
    assert table.returncode == 0 and table.stdout.count("migrated") == len(found) and table.stdout.count("well") == len(found)


@pytest.mark.parametrize("answers", [True, False], ids=["hangs up", "is silent"])
def test_one_server_that_is_down(shop: Shop, answers: bool) -> None:
    """The others are asked all the same."""
    with listening(answers) as port:
        url = f"mysql://user:{SECRET}@127.0.0.1:{port}/shop"
        result = shop.run("ping", "--databases", "--json", env={"ORDERS_DB_URL": url})
    one_sentence(result, 4, f"orders_db (127.0.0.1:{port}) ", ". ")
    found = parts(result)
    assert [alias for alias, part in found.items() if part["trouble"]] == ["orders_db"]
    assert found["payments_db"]["migrated"] and found["orders_db"]["version"] == ""


def test_nothing_is_ready(run_cli: Cli) -> None:
    result = run_cli("ping")
    assert result.returncode == 4
    says = result.stderr.splitlines()
    assert len(says) == 8 and "Traceback" not in result.stderr
    assert says[0].startswith("control database (") and says[0].endswith(" migrations. Run `manage.py migrate_all`.")
    assert "auth_db (" in says[2] and says[2].endswith("Run `manage.py migrate_all`.")
    assert says[6:] == [
        "workers: none answers. Start one: `make run`, or `celery -A techmarket worker`.",
        "beat: cannot be asked while the control database is not ready.",
    ]


def test_broker_worker_and_beat(shop: Shop) -> None:
    env = {"CELERY_BROKER_URL": os.environ["TEST_REDIS_URL"].rsplit("/", 1)[0] + "/15"} if ON_SERVERS else {}
    crew = [celery(shop, env, "worker", "--concurrency", "1"), celery(shop, env, "beat", "--pidfile=")]
    try:
        deadline = time.monotonic() + WAIT
        while (result := shop.run("ping", "--json", env=env)).returncode and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        for process in crew:
            process.kill()
            process.wait()
    assert result.returncode == 0, result.stderr
    found = parts(result)
    assert found["broker"]["version"].startswith("Redis " if ON_SERVERS else "files")
    assert found["workers"]["version"] == "1 alive" and found["workers"]["place"].startswith("celery@")
    assert found["beat"]["version"].endswith(" s ago")
    (shop.folder / "alive" / "beat").unlink()
    shop.sql("default", "UPDATE django_celery_beat_periodictask SET last_run_at = '2026-01-31 02:00:00+00:00'")
    result = shop.run("ping", "--json", env=env)
    assert result.returncode == 4
    workers, beat = result.stderr.splitlines()
    assert workers.startswith("workers: none answers.")
    assert beat == "beat: has given no sign since 2026-01-31 02:00:00 UTC. Start one: `make run`, or `celery -A techmarket beat`."


def celery(shop: Shop, env: dict[str, str], *words: str) -> "subprocess.Popen[bytes]":
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    command = [sys.executable, "-m", "celery", "-A", "techmarket", *words]
    return subprocess.Popen(command, cwd=ROOT, env=passed_on | shop.env | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_broker_that_does_not_answer(shop: Shop) -> None:
    with listening(answers=False) as port:
        result = shop.run("ping", "--json", env={"CELERY_BROKER_URL": f"redis://:{SECRET}@127.0.0.1:{port}/0"})
    assert result.returncode == 4 and SECRET not in result.stdout + result.stderr
    assert result.stderr.splitlines()[:2] == [
        f"broker (127.0.0.1:{port}) does not answer. Start it, or correct CELERY_BROKER_URL.",
        "workers: cannot be asked while the broker does not answer.",
    ]
