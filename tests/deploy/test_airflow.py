"""The Airflow DAGs, checked without Airflow; `make test-airflow` runs them in Airflow."""

import ast
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from techmarket import outbound
from techmarket.commands import ExitCode
from tests.conftest import ROOT, Cli
from tests.deploy.test_compose import services

DAG = ast.parse((ROOT / "deploy" / "airflow" / "dags" / "techmarket_etl_dag.py").read_text())
MODES = ("incremental", "full")


def read_commands() -> list[str]:
    """Return the arguments of `manage.py` in the tasks: the second argument of each `make_command(...)`."""
    calls = [node for node in ast.walk(DAG) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "make_command"]
    return [eval(compile(ast.Expression(call.args[1]), "dag", "eval"), {"mode": mode}) for call in calls for mode in MODES]


def test_commands_of_the_tasks_exist() -> None:
    commands = set(read_commands())
    assert len(commands) == 4
    for command in commands:
        name, *options = command.split()
        load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(options)


def test_dags_know_the_exit_code_of_a_skipped_run() -> None:
    (code,) = [node.value for node in DAG.body if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SKIPPED"]
    assert ast.literal_eval(code) == ExitCode.SKIPPED


def load_functions(*names: str) -> dict[str, Any]:
    """Return these functions of the DAG with its imports and constants, but without Airflow."""
    parts = [node for node in DAG.body if "airflow" not in ast.unparse(node) and "make_dag(" not in ast.unparse(node)]
    chosen = [node for node in parts if not isinstance(node, ast.FunctionDef) or node.name in names]
    scope: dict[str, Any] = {}
    exec(compile(ast.Module(chosen, type_ignores=[]), "dag", "exec"), scope)
    return scope


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "chat", "chat.team.svc", "chat.internal", "chat.example.com", "8.8.8.8", "::1"])
def test_notice_takes_the_way_of_techmarkets_own(host: str) -> None:
    assert load_functions("is_local")["is_local"](host) is outbound.is_local(host)


def test_notice_to_this_machine_ignores_a_dead_proxy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("NOTIFY_URL", f"http://127.0.0.1:{server.server_port}/hook?token=canary")
        load_functions("send_notice", "is_local")["send_notice"]("failed", SimpleNamespace(dag_id="daily", run_id="1"), "run failed")
    assert [json.loads(body)["event"] for body in received] == ["failed"]
    assert capsys.readouterr().out == "daily failed: run failed\n"


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.airflow.yml").read_text()))


def test_airflow_container_is_configured_like_a_worker(stack: dict[str, Any]) -> None:
    airflow, worker = stack["services"]["airflow"], services()["worker"]
    assert airflow["environment"] == worker["environment"]
    for name in ("init", "read_only", "cap_drop", "security_opt", "restart"):
        assert airflow[name] == worker[name], name
    assert set(worker["tmpfs"]) <= set(airflow["tmpfs"])


def test_airflow_container_mounts_existing_folders(stack: dict[str, Any]) -> None:
    airflow = stack["services"]["airflow"]
    assert (ROOT / airflow["build"]["dockerfile"]).is_file()
    assert airflow["ports"] == ["${BIND:-127.0.0.1}:${AIRFLOW_PORT:-8081}:8080"]
    mounts = [volume.split(":")[0] for volume in airflow["volumes"]]
    assert {mount for mount in mounts if not mount.startswith("./")} == set(stack["volumes"])
    assert all((ROOT / mount).is_dir() for mount in mounts if mount.startswith("./"))


# --- manage.py wait --sources ---


def test_wait_checks_the_sources(run_cli: Cli) -> None:
    empty = run_cli("wait", "--sources", "--seconds", "0")
    assert empty.returncode == ExitCode.CONFIGURATION and empty.stderr.count("\n") == 1 and "Run `manage.py migrate_all`." in empty.stderr
    assert run_cli("migrate_all", "-v", "0").returncode == 0
    ready = run_cli("wait", "--sources", "--seconds", "0")
    assert (ready.returncode, ready.stdout, ready.stderr) == (0, "", "")
    unreachable = run_cli("wait", "--sources", "--seconds", "0", env={"ORDERS_DB_URL": "mysql://etl_reader:canary@127.0.0.1:1/orders_db"})
    assert unreachable.returncode == ExitCode.CONFIGURATION and "canary" not in unreachable.stderr
    assert unreachable.stderr == "orders_db (127.0.0.1:1) does not answer. Start it, or correct ORDERS_DB_URL.\n"
