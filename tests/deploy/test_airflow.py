"""The Airflow DAGs, checked without Airflow; `make test-airflow` runs them in Airflow."""

import ast
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

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
