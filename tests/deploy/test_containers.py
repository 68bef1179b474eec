"""The entrypoint of containers, `manage.py wait` and the health check."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django_celery_beat.schedulers import DatabaseScheduler
from pytest_django.fixtures import Settings

from apps.orchestration.worker import beat
from techmarket import liveness
from techmarket.celery import app, record_worker_alive
from tests.conftest import PASSED_ON, ROOT, Cli

CONFIGURATION = 4


def test_wait_reports_missing_migrations(run_cli: Cli) -> None:
    result = run_cli("wait", "--seconds", "0")
    assert result.returncode == CONFIGURATION
    assert result.stderr.startswith("control database (") and result.stderr.endswith(" migrations. Run `manage.py migrate_all`.\n")
    assert run_cli("migrate_all", "-v", "0").returncode == 0
    assert run_cli("wait", "--seconds", "0").returncode == 0


def test_wait_for_a_server_has_a_time_limit(run_cli: Cli) -> None:
    start = time.monotonic()
    result = run_cli("wait", "--seconds", "2", env={"CONTROL_DB_URL": "postgres://control_user:canary@127.0.0.1:1/control"})
    assert result.returncode == CONFIGURATION
    assert result.stderr == "control database (127.0.0.1:1) does not answer. Start it, or correct CONTROL_DB_URL.\n"
    assert time.monotonic() - start >= 2


def run_entrypoint(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", str(ROOT / "deploy" / "entrypoint.sh"), *arguments]
    return subprocess.run(
        command, env=passed_on | {"PATH": path, "ENV_FILE": os.devnull} | env, capture_output=True, text=True, timeout=300
    )


def test_entrypoint_runs_any_command(tmp_path: Path) -> None:
    result = run_entrypoint("manage", "schedules", "--help", VAR_DIR=str(tmp_path))
    assert result.returncode == 0 and "manage.py schedules" in result.stdout
    assert not (tmp_path / "role").exists()


@pytest.mark.parametrize("role", ["web", "worker", "beat"])
def test_entrypoint_starts_no_role_without_migrations(tmp_path: Path, role: str) -> None:
    result = run_entrypoint(role, VAR_DIR=str(tmp_path), WAIT_SECONDS="0")
    assert result.returncode == CONFIGURATION and "manage.py migrate_all" in result.stderr
    assert (tmp_path / "role").read_text() == f"{role}\n"


@pytest.mark.parametrize("folder", ["/proc/none", "relative/none"])
def test_entrypoint_starts_no_role_whose_health_nobody_could_check(folder: str) -> None:
    result = run_entrypoint("worker", VAR_DIR=folder)
    reason = f"VAR_DIR: cannot write there (user {os.getuid()}, group {os.getgid()}). Example: VAR_DIR=/var/lib/techmarket\n"
    assert (result.returncode, result.stderr) == (CONFIGURATION, reason)


def test_entrypoint_refuses_an_unknown_role() -> None:
    result = run_entrypoint("wrok")
    assert result.returncode == 2 and result.stderr.startswith("entrypoint: unknown role 'wrok'; use web,")


# --- Signs of life ---


def test_worker_and_beat_touch_their_files(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr(DatabaseScheduler, "tick", lambda self: 5)
    monkeypatch.setattr(beat.LivenessScheduler, "mend_future_instants", lambda self: None)  # it asks the database, as does the next
    monkeypatch.setattr(beat, "measure_clock", lambda role: None)
    record_worker_alive()
    assert beat.LivenessScheduler(app, lazy=True).tick() == 5
    assert sorted(path.name for path in (tmp_path / "alive").iterdir()) == ["beat", "worker"]


def test_full_disk_does_not_end_a_process(settings: Settings) -> None:
    settings.VAR_DIR = Path("/dev/null")
    liveness.touch_liveness_file("worker")


def run_healthcheck(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
    return subprocess.run(command, env={"VAR_DIR": str(folder)} | env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def container(tmp_path: Path) -> Path:
    (tmp_path / "alive").mkdir()
    return tmp_path


def touch_sign(container: Path, role: str, age: float) -> Path:
    """Set the role of the container and touch its file `age` seconds ago."""
    (container / "role").write_text(f"{role}\n")
    sign = container / "alive" / role
    sign.touch()
    os.utime(sign, (time.time() - age,) * 2)
    return container


def test_one_off_command_is_healthy(container: Path) -> None:
    assert run_healthcheck(container).returncode == 0


@pytest.mark.parametrize(("age", "code"), [(0, 0), (50, 0), (70, 1), (-50, 0), (-3600, 1)])
def test_silent_beat_is_unhealthy(container: Path, age: float, code: int) -> None:
    assert run_healthcheck(touch_sign(container, "beat", age)).returncode == code


def test_beat_without_a_sign_of_life(container: Path) -> None:
    (container / "role").write_text("beat\n")
    result = run_healthcheck(container)
    assert (result.returncode, result.stdout) == (1, "beat has sent no sign of life yet\n")


def test_silent_worker_is_healthy_while_the_broker_is_unreachable(container: Path) -> None:
    assert run_healthcheck(touch_sign(container, "worker", 500), CELERY_BROKER_URL="redis://127.0.0.1:1/0").returncode == 0


@pytest.mark.skipif("TEST_REDIS_URL" not in os.environ, reason="needs Redis: `make test` runs it a second time, with servers")
def test_silent_worker_with_a_reachable_broker_is_unhealthy(container: Path) -> None:
    result = run_healthcheck(touch_sign(container, "worker", 500), CELERY_BROKER_URL=os.environ["TEST_REDIS_URL"])
    assert result.returncode == 1 and re.fullmatch(r"worker has sent no sign of life for 5\d\d s\n", result.stdout), result.stdout
    assert run_healthcheck(touch_sign(container, "worker", 5), CELERY_BROKER_URL=os.environ["TEST_REDIS_URL"]).returncode == 0


def test_healthcheck_of_web_requests_healthz(container: Path, web_port: str) -> None:
    (container / "role").write_text("web\n")
    assert run_healthcheck(container, PORT=web_port).returncode == 0
    result = run_healthcheck(container, PORT="1")
    assert result.returncode == 1 and "/healthz: " in result.stdout
