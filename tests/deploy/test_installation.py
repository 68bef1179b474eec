"""Installations as people have them: other clones, other users, a proxy, no packages, an old Python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request

import pytest

from techmarket import outbound
from tests.conftest import ROOT

BLIND_PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:1")
MISSING = "lacks a package that TechMarket needs: No module named"


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300)


# --- A Python that cannot run TechMarket ---


def test_python_without_packages_names_make_setup() -> None:
    result = run(sys.executable, "-S", "manage.py", "version")
    assert (result.returncode, result.stdout) == (4, "") and result.stderr.count("\n") == 1
    assert f"{MISSING} 'django'. Run `make setup`" in result.stderr


@pytest.mark.parametrize("package", ["MySQLdb", "psycopg", "structlog"])
@pytest.mark.parametrize(
    "command",
    [["manage.py", "check"], ["-m", "celery", "-A", "techmarket", "report"], ["-m", "gunicorn", "--check-config", "techmarket.wsgi"]],
)
def test_missing_package_is_one_line(package: str, command: list[str], tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}', name='{package}')")
    result = run(sys.executable, *command, PYTHONPATH=str(tmp_path), ENV_FILE=os.devnull, VAR_DIR=str(tmp_path))
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert f"{MISSING} {package}. Run `make setup`" in result.stderr


def test_old_python_is_refused(tmp_path: Path) -> None:
    script = "import sys; sys.version_info = (3, 9, 2); import techmarket"
    result = run(sys.executable, "-c", script)
    assert result.returncode == 4 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("TechMarket needs Python 3.12 or newer, and ") and " is 3.9. Run `make setup`" in result.stderr


def test_settings_of_another_project_are_named() -> None:
    result = run(sys.executable, "manage.py", "version", DJANGO_SETTINGS_MODULE="shop.settings")
    assert (result.returncode, result.stderr.count("\n")) == (4, 1)
    assert result.stderr.startswith("DJANGO_SETTINGS_MODULE: there is no module 'shop.settings' here")


# --- Clones ---


@pytest.fixture(scope="module")
def windows_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone as Git for Windows makes it."""
    if not shutil.which("git") or run("git", "rev-parse", "HEAD").returncode != 0:
        pytest.skip("needs git and its repository")
    clone = tmp_path_factory.mktemp("clones") / "Мій магазин #1 %20"
    command = ["git", "clone", "-q", "--depth", "1", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", f"file://{ROOT}", str(clone)]
    assert run(*command).returncode == 0
    return clone


def test_windows_clone_has_one_line_ending(windows_clone: Path) -> None:
    files = run("git", "ls-files", "-z", cwd=windows_clone).stdout.split("\0")[:-1]
    texts = [name for name in files if not name.endswith((".png", ".mo"))]
    assert texts and [name for name in texts if b"\r\n" in (windows_clone / name).read_bytes()] == []


def test_scripts_of_a_windows_clone_run(windows_clone: Path) -> None:
    assert run("make", "--no-print-directory", cwd=windows_clone, MAKEFLAGS="", MAKELEVEL="").returncode == 0
    for command in (["deploy/setup.sh", "everything"], ["deploy/entrypoint.sh", "wrok"]):
        result = run("sh", *command, cwd=windows_clone, CDPATH="/usr")
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr


def test_windows_clone_carries_a_shop(windows_clone: Path, tmp_path: Path) -> None:
    """Its path has letters that an address gives a meaning, its .env the line endings of Windows, and there is no git."""
    variables = dict.fromkeys(("ORDERS_DB_URL", "DWH_URL", "CELERY_BROKER_URL", "ENV_FILE", "VAR_DIR"))
    env = {name: value for name, value in os.environ.items() if name not in variables and not name.endswith("_DB_URL")}
    (windows_clone / ".env").write_bytes(b'# Settings\r\nDEBUG=True\r\n\r\nETL_BATCH_ORDERS=200\r\nLOG_FORMAT="json"\r\n')

    def manage(*arguments: str, **more: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        result = subprocess.run(
            command, cwd=windows_clone, env=env | {"PATH": str(tmp_path)} | more, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0 and "Traceback" not in result.stderr, (arguments, result.stdout, result.stderr)
        return result.stdout

    manage("check")
    assert "(commit " in manage("version")
    manage("migrate_all", "-v", "0")
    manage("generate_data", "--quiet")
    manage("run_etl", "--quiet")
    manage("backup", "--verify", "-v", "0")
    folder = windows_clone / "var"
    name = next(path.name for path in (folder / "backups").iterdir() if path.name != ".lock")
    restored = windows_clone / "var #?%20"
    manage("restore", name, VAR_DIR=str(restored), BACKUP_DIR=str(folder / "backups"))
    assert re.match(r"(\d[\d ]+) of \1 days are equal\.", manage("reconcile", VAR_DIR=str(restored)))
    assert {path.name for path in windows_clone.parent.iterdir()} == {windows_clone.name}


def test_image_is_readable_after_umask_077() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text()
    source, final = lines.split("FROM ${BASE}\n")
    assert source.index("COPY . .") < source.index("chmod -R u=rwX,go=rX .")
    assert re.findall(r"^COPY (?!--from)", final, re.MULTILINE) == []
    assert "install -d -o 10001 -g 0 -m 0775 /var/lib/techmarket" in final


def test_mounted_files_are_readable_after_umask_077(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "магазин" / "deploy")
    checkout = tmp_path / "магазин"
    (tmp_path / "docker").write_text('#!/bin/sh\necho "project ${COMPOSE_PROJECT_NAME:-}"\n')
    (tmp_path / "docker").chmod(0o755)
    run("chmod", "-R", "go-rwx", str(checkout))
    result = run("sh", "deploy/compose.sh", "ps", cwd=checkout, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", CDPATH="/usr")
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.endswith("project techmarket\n")
    for name in ("mysql/reader.sh", "postgres/roles.sh", "prometheus/prometheus.yml"):
        assert (checkout / "deploy" / name).stat().st_mode & 0o044 == 0o044
    assert (checkout / "deploy" / "prometheus").stat().st_mode & 0o055 == 0o055


def test_demo_ignores_files_of_settings_too() -> None:
    result = run("make", "-n", "demo", "VAR_DIR=/tmp/a b", MAKEFLAGS="", MAKELEVEL="")
    line = next(line for line in result.stdout.splitlines() if line.startswith("unset "))
    assert "VAR_DIR='/tmp/a b'" in line
    script = line.split("&& set -x")[0] + ' && echo "$ORDERS_DB_URL_FILE$DWH_URL$VAR_DIR"'
    result = run("sh", "-c", script, ORDERS_DB_URL_FILE="/run/secrets/real", DWH_URL="postgres://real", VAR_DIR="/real")
    assert result.stdout == "/tmp/a b\n"


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_environment_that_is_no_folder_is_named(kind: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.write_text("") if kind == "file" else venv.symlink_to(tmp_path / "gone")
    result = run("sh", "deploy/setup.sh", VENV=str(venv))
    assert (result.returncode, result.stderr) == (1, f"setup: {venv} is a file or a broken link; remove it and run this again\n")


def test_environment_in_a_read_only_place_is_named() -> None:
    result = run("sh", "deploy/setup.sh", VENV="/proc/venv")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "cannot be created; name a folder that can be: make setup VENV=" in result.stderr


# --- A proxy ---


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "10.1.2.3", "localhost", "metabase", "metabase.bi.svc", "metabase.bi.svc.cluster.local"]
)
def test_own_network_is_reached_without_the_proxy(host: str) -> None:
    assert outbound.is_local(host)


@pytest.mark.parametrize("host", ["chat.example.com", "8.8.8.8", "svc.example.com"])
def test_other_addresses_use_the_proxy(host: str) -> None:
    assert not outbound.is_local(host)


def test_request_to_this_machine_ignores_a_dead_proxy(live_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BLIND_PROXY.items():
        monkeypatch.setenv(name, value)
    with outbound.open_url(Request(live_address), 5) as response:
        assert response.status == 200


def test_healthcheck_ignores_a_dead_proxy(live_address: str, tmp_path: Path) -> None:
    (tmp_path / "role").write_text("web\n")
    port = live_address.split(":")[2].partition("/")[0]
    result = run(sys.executable, "deploy/healthcheck.py", VAR_DIR=str(tmp_path), PORT=port, **BLIND_PROXY)
    assert (result.returncode, result.stdout) == (0, "alive\n")


@pytest.fixture
def live_address(web_port: str) -> str:
    return f"http://127.0.0.1:{web_port}/healthz"


def test_health_checks_of_compose_ignore_proxies() -> None:
    for name in ("docker-compose.yml", "docker-compose.airflow.yml"):
        for line in (ROOT / name).read_text().splitlines():
            if "test:" in line and re.search("curl|wget|urllib", line):
                assert re.search(r"--noproxy|http_proxy= wget|ProxyHandler\(\{}\)", line), line
