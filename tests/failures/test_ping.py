"""`manage.py ping`: healthy and failing parts; each failing one in bounded time and with one sentence."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from django.conf import settings

from tests.conftest import PASSED_ON, ROOT, Cli
from tests.failures.conftest import ON_SERVERS, SECRET, Shop, assert_one_line
from tests.failures.test_databases import listening

STARTUP_TIMEOUT_S = 300.0


def parts(result: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    document = json.loads(result.stdout)
    assert document["well"] == (result.returncode == 0) == (result.stderr == "")
    return {part["name"]: part for part in document["parts"]}


def test_ping_of_healthy_databases(shop: Shop) -> None:
    result = shop.run("ping", "--databases", "--json")
    assert result.returncode == 0, result.stderr
    by_name = parts(result)
    assert list(by_name) == list(settings.DATABASES)
    for alias, part in by_name.items():
        kind = ("MariaDB ", "MySQL ") if alias in settings.SOURCES else ("PostgreSQL ",)
        assert part["version"].startswith(kind if ON_SERVERS else "SQLite ")
        assert 0 <= part["latency_ms"] < 5000 and part["migrated"] and part["rights"] == "write" and not part["trouble"]
    table = shop.run("ping", "--databases")
    assert table.returncode == 0 and table.stdout.count("migrated") == len(by_name) and table.stdout.count("well") == len(by_name)


@pytest.mark.parametrize("answers", [True, False], ids=["hangs up", "is silent"])
def test_one_unreachable_server(shop: Shop, answers: bool) -> None:
    """The other databases are still checked."""
    with listening(answers) as port:
        url = f"mysql://user:{SECRET}@127.0.0.1:{port}/shop"
        result = shop.run("ping", "--databases", "--json", env={"ORDERS_DB_URL": url})
    assert_one_line(result, 4, f"orders_db (127.0.0.1:{port}) ", ". ")
    by_name = parts(result)
    assert [alias for alias, part in by_name.items() if part["trouble"]] == ["orders_db"]
    assert by_name["payments_db"]["migrated"] and by_name["orders_db"]["version"] == ""


def test_ping_of_the_batch_store(shop: Shop) -> None:
    folder = shop.folder / "batches"
    env = {"ETL_BATCH_URL": f"file://{folder}"}
    part = json.loads(shop.run("ping", "--json", env=env).stdout)["parts"][len(settings.DATABASES)]
    assert (part["name"], part["place"], part["rights"], part["trouble"]) == ("batches", f"batch store (file://{folder})", "write", "")
    assert not [each for each in folder.rglob("*") if each.is_file()]
    folder.rename(shop.folder / "elsewhere")
    folder.write_text("")
    assert f"batch store (file://{folder}) cannot be used: File exists." in shop.run("ping", env=env).stderr


def test_ping_before_migrate(run_cli: Cli) -> None:
    result = run_cli("ping")
    assert result.returncode == 4
    lines = result.stderr.splitlines()
    assert len(lines) == 8 and "Traceback" not in result.stderr
    assert lines[0].startswith("control database (") and lines[0].endswith(" migrations. Run `manage.py migrate_all`.")
    assert "auth_db (" in lines[2] and lines[2].endswith("Run `manage.py migrate_all`.")
    assert lines[6:] == [
        "workers: none answers. Start one: `make run`, or `celery -A techmarket worker`.",
        "beat: cannot be asked while the control database is not ready.",
    ]


def test_ping_of_broker_worker_and_beat(shop: Shop) -> None:
    env = {"CELERY_BROKER_URL": os.environ["TEST_REDIS_URL"].rsplit("/", 1)[0] + "/15"} if ON_SERVERS else {}
    processes = [start_celery(shop, env, "worker", "--concurrency", "1"), start_celery(shop, env, "beat", "--pidfile=")]
    try:
        deadline = time.monotonic() + STARTUP_TIMEOUT_S
        while (result := shop.run("ping", "--json", env=env)).returncode and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert result.returncode == 0, result.stderr
    by_name = parts(result)
    assert by_name["broker"]["version"].startswith("Redis " if ON_SERVERS else "files")
    assert by_name["workers"]["version"] == "1 alive" and by_name["workers"]["place"].startswith("celery@")
    assert by_name["beat"]["version"].endswith(" s ago")
    assert {by_name[duty]["trouble"] for duty in ("reap", "schedules", "forget")} == {""}
    (shop.folder / "alive" / "beat").unlink()
    shop.sql("default", "DELETE FROM orchestration_hostclock")
    shop.sql("default", "UPDATE django_celery_beat_periodictask SET last_run_at = '2026-01-31 02:00:00+00:00'")
    result = shop.run("ping", "--json", env=env)
    assert result.returncode == 4
    workers, beat = result.stderr.splitlines()
    assert workers.startswith("workers: none answers.")
    assert beat == "beat: has given no sign since 2026-01-31 02:00:00 UTC. Start one: `make run`, or `celery -A techmarket beat`."


def start_celery(shop: Shop, env: dict[str, str], *arguments: str) -> "subprocess.Popen[bytes]":
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    command = [sys.executable, "-m", "celery", "-A", "techmarket", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=passed_on | shop.env | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_unresponsive_broker(shop: Shop) -> None:
    with listening(answers=False) as port:
        result = shop.run("ping", "--json", env={"CELERY_BROKER_URL": f"redis://:{SECRET}@127.0.0.1:{port}/0"})
    assert result.returncode == 4 and SECRET not in result.stdout + result.stderr
    assert result.stderr.splitlines()[:2] == [
        f"broker (127.0.0.1:{port}) does not answer. Start it, or correct CELERY_BROKER_URL.",
        "workers: cannot be asked while the broker does not answer.",
    ]
