"""The command in unusual shells: the run is published in full, and stderr has at most one sentence."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from apps.audit.actor import os_user
from techmarket.commands import Command
from tests.conftest import ROOT
from tests.failures.conftest import Shop, assert_one_line, needs_files

pytestmark = needs_files  # the shell behaves alike with servers
KEYS = {"run", "mode", "dry_run", "status", "cause", "cause_code", "cause_kind", "window", "high_water_mark", "orders", "seconds"} | {
    "tables",
    "sources",
    "accepted",
    "net_by_month",
    "net_by_cause",
    "checks",
    "rejects",
}
CYRILLIC = "оплачено"


def run_in_shell(shop: Shop, command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a bash command line that contains `manage.py`, with its own pipes."""
    manage = f"{sys.executable} {ROOT / 'manage.py'}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("manage.py", manage)],
        env={"PATH": os.environ["PATH"], "HOME": str(shop.folder)} | shop.env | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def assert_published(shop: Shop, before: str) -> None:
    assert shop.runs()[-1]["state"] == "succeeded"
    assert shop.warehouse() != before


def test_pipe_closed_after_the_first_line(shop: Shop) -> None:
    before = shop.warehouse()
    result = run_in_shell(shop, "manage.py run_etl | head -1")
    assert (result.returncode, result.stdout, result.stderr) == (0, result.stdout.splitlines()[0] + "\n", "")
    assert result.stdout.startswith("Run 2: incremental, changes from ")
    assert_published(shop, before)


@pytest.mark.parametrize(("options", "closed"), [("", "| true"), ("--json", "| true"), ("", ">&- 2>&-"), ("--dry-run", ">&-")])
def test_closed_output(shop: Shop, options: str, closed: str) -> None:
    before = shop.warehouse()
    result = run_in_shell(shop, f"manage.py run_etl {options} {closed}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    if options == "--dry-run":
        assert shop.runs()[-1]["state"] == "succeeded" and shop.warehouse() == before
    else:
        assert_published(shop, before)


def test_report_on_a_full_disk(shop: Shop) -> None:
    before = shop.warehouse()
    result = run_in_shell(shop, "manage.py run_etl --json > /dev/full")
    assert_one_line(result, 1, "Run 2 has succeeded, but its report cannot be written: No space left on device")
    assert_published(shop, before)


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ("", {"LC_ALL": "C"}),
        ("--json", {"PYTHONIOENCODING": "ascii"}),
        ("", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    ],
)
def test_terminal_encoding_without_cyrillic(shop: Shop, env: dict[str, str], options: str) -> None:
    shop.sql("orders_db", f"UPDATE orders SET status = '{CYRILLIC}' WHERE id = 7")
    shop.sql("catalog_db", "UPDATE products SET sku = 'Київ' WHERE id = 1")
    before = shop.warehouse()
    result = run_in_shell(shop, f"manage.py run_etl {options}", **env)
    assert (result.returncode, result.stderr) == (0, "")
    assert_published(shop, before)
    [(raw,)] = shop.sql("default", "SELECT raw FROM orchestration_reject WHERE rule LIKE '%status%' AND run_id = 2")
    assert CYRILLIC in json.dumps(json.loads(raw), ensure_ascii=False)
    if options:
        assert "orders" in {reject["table"] for reject in json.loads(result.stdout)["rejects"]}
    else:
        assert "rejected" in result.stdout


def test_missing_working_directory_and_user(shop: Shop) -> None:
    """The working directory is deleted, HOME is unset, and the user has no name."""
    before = shop.warehouse()
    gone = shop.folder / "gone"
    result = run_in_shell(shop, f"mkdir {gone} && cd {gone} && rmdir {gone} && unset HOME USER LOGNAME && manage.py run_etl --quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert_published(shop, before)


def test_the_user_is_the_systems_whatever_logname_says(shop: Shop) -> None:
    """Also a failure with closed output: the exit code still reports it."""
    env = {"PAYMENTS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/x", "LOGNAME": "x" * 5_000}
    result = run_in_shell(shop, "manage.py run_etl >&- 2>&-", **env)
    assert (result.returncode, result.stdout, result.stderr) == (4, "", "")
    assert "payments_db (127.0.0.1:1) does not answer" in shop.runs()[-1]["cause"]
    assert shop.sql("default", "SELECT requested_by FROM orchestration_run ORDER BY id DESC LIMIT 1") == [(os_user(),)]


# --- --json ---


def test_json_of_a_success(shop: Shop) -> None:
    result = shop.run("run_etl", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert set(document) == KEYS
    assert (document["run"], document["status"], document["cause"], document["mode"]) == (2, "succeeded", "", "incremental")
    assert document["tables"]["fact_sales"]["inserted"] > 0 and all(check["passed"] for check in document["checks"] if check["blocking"])


def test_json_of_a_failure(shop: Shop) -> None:
    result = shop.run("run_etl", "--json", env={"PAYMENTS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/x"})
    assert_one_line(result, 4, "payments_db (127.0.0.1:1)")
    document = json.loads(result.stdout)
    assert set(document) == KEYS
    assert (document["run"], document["status"], document["cause"]) == (2, "failed", result.stderr.strip())
    assert "topsecret" not in result.stdout


def test_json_of_a_braked_run(shop: Shop) -> None:
    """Five of every six order lines are deleted: the brakes stop that."""
    shop.sql("orders_db", "DELETE FROM order_items WHERE id % 6 <> 0")
    before = shop.warehouse()
    result = shop.run("run_etl", "--json", "--mode", "full")
    assert_one_line(result, 5, "Stopped before publishing", "share deleted")
    document = json.loads(result.stdout)
    assert set(document) == KEYS and document["status"] == "failed"
    failed = [check["name"] for check in document["checks"] if check["blocking"] and not check["passed"]]
    assert failed[:2] == ["share deleted", "net deleted"] and all("net deleted and rejected in" in name for name in failed[2:])
    assert shop.warehouse() == before and shop.runs()[-1]["cause_kind"] == "data"


def test_verbosity_3_prints_a_traceback(shop: Shop) -> None:
    env = {"PAYMENTS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/x"}
    result = shop.run("run_etl", "-v", "3", env=env)
    assert result.returncode == 4
    assert result.stderr.startswith("Traceback (most recent call last):\n") and "topsecret" not in result.stderr
    assert result.stderr.splitlines()[-1] == shop.runs()[-1]["cause"]


@pytest.mark.parametrize("verbosity", [1, 3])
def test_unexpected_error_is_one_line(verbosity: int, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Command):
        def handle(self, **options: Any) -> None:
            raise ZeroDivisionError("spoilt\nby a test")

    with pytest.raises(SystemExit) as end:
        Broken().run_from_argv(["manage.py", "broken", "-v", str(verbosity)])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (1, "")
    message = "Unexpected ZeroDivisionError: spoilt by a test. This is a bug; -v 3 shows the traceback.\n"
    assert err == message if verbosity == 1 else err.startswith("Traceback") and err.endswith(message)
