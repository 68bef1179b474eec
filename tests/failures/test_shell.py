"""Whatever the shell around it is like: the run is published whole, and nothing but a sentence is said."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from techmarket.commands import Command
from tests.conftest import ROOT
from tests.failures.conftest import Shop, needs_files, one_sentence

pytestmark = needs_files  # the shell is the same with servers
KEYS = {"run", "mode", "dry_run", "status", "cause", "cause_code", "cause_kind", "window", "high_water_mark", "seconds"} | {
    "tables",
    "sources",
    "checks",
    "rejects",
}
CYRILLIC = "оплачено"


def sh(shop: Shop, command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """`manage.py` in a command line of bash, with its own pipes."""
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


def published(shop: Shop, before: str) -> None:
    assert shop.runs()[-1]["state"] == "succeeded"
    assert shop.warehouse() != before


def test_the_reader_leaves_after_the_first_line(shop: Shop) -> None:
    before = shop.warehouse()
    result = sh(shop, "manage.py run_etl | head -1")
    assert (result.returncode, result.stdout, result.stderr) == (0, result.stdout.splitlines()[0] + "\n", "")
    assert result.stdout.startswith("Run 2: incremental, changes from ")
    published(shop, before)


@pytest.mark.parametrize(("options", "closed"), [("", "| true"), ("--json", "| true"), ("", ">&- 2>&-"), ("--dry-run", ">&-")])
def test_nobody_reads(shop: Shop, options: str, closed: str) -> None:
    before = shop.warehouse()
    result = sh(shop, f"manage.py run_etl {options} {closed}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    if options == "--dry-run":
        assert shop.runs()[-1]["state"] == "succeeded" and shop.warehouse() == before
    else:
        published(shop, before)


def test_the_disk_of_the_report_is_full(shop: Shop) -> None:
    before = shop.warehouse()
    result = sh(shop, "manage.py run_etl --json > /dev/full")
    one_sentence(result, 1, "Run 2 has succeeded, but its report cannot be written: No space left on device")
    published(shop, before)


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ("", {"LC_ALL": "C"}),
        ("--json", {"PYTHONIOENCODING": "ascii"}),
        ("", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    ],
)
def test_letters_that_the_terminal_lacks(shop: Shop, env: dict[str, str], options: str) -> None:
    shop.sql("orders_db", f"UPDATE orders SET status = '{CYRILLIC}' WHERE id = 7")
    shop.sql("catalog_db", "UPDATE products SET sku = 'Київ' WHERE id = 1")
    before = shop.warehouse()
    result = sh(shop, f"manage.py run_etl {options}", LOGNAME="олена", **env)
    assert (result.returncode, result.stderr) == (0, "")
    published(shop, before)
    [(raw,)] = shop.sql("default", "SELECT raw FROM orchestration_reject WHERE rule LIKE '%status%' AND run_id = 2")
    assert CYRILLIC in json.dumps(json.loads(raw), ensure_ascii=False)
    if options:
        assert "orders" in {reject["table"] for reject in json.loads(result.stdout)["rejects"]}
    else:
        assert "rejected" in result.stdout


def test_nowhere_to_be_and_nobody_to_be(shop: Shop) -> None:
    """Its folder is gone, there is no HOME, and the user has no name."""
    before = shop.warehouse()
    gone = shop.folder / "gone"
    result = sh(shop, f"mkdir {gone} && cd {gone} && rmdir {gone} && unset HOME USER LOGNAME && manage.py run_etl --quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    published(shop, before)


def test_a_name_longer_than_the_ledger_holds(shop: Shop) -> None:
    """And a failure that nobody reads: its code still tells."""
    env = {"PAYMENTS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/x", "LOGNAME": "x" * 5_000}
    result = sh(shop, "manage.py run_etl >&- 2>&-", **env)
    assert (result.returncode, result.stdout, result.stderr) == (4, "", "")
    assert "payments_db (127.0.0.1:1) does not answer" in shop.runs()[-1]["cause"]
    assert shop.sql("default", "SELECT requested_by FROM orchestration_run ORDER BY id DESC LIMIT 1") == [("x" * 150,)]


# --- --json ---


def test_json_of_a_success(shop: Shop) -> None:
    result = shop.run("run_etl", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    assert set(said) == KEYS
    assert (said["run"], said["status"], said["cause"], said["mode"]) == (2, "succeeded", "", "incremental")
    assert said["tables"]["fact_sales"]["inserted"] > 0 and all(check["passed"] for check in said["checks"])


def test_json_of_a_failure(shop: Shop) -> None:
    result = shop.run("run_etl", "--json", env={"PAYMENTS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/x"})
    one_sentence(result, 4, "payments_db (127.0.0.1:1)")
    said = json.loads(result.stdout)
    assert set(said) == KEYS
    assert (said["run"], said["status"], said["cause"]) == (2, "failed", result.stderr.strip())
    assert "topsecret" not in result.stdout


def test_json_of_a_refusal(shop: Shop) -> None:
    """Five of each six orders are gone: the checks do not believe it."""
    shop.sql("orders_db", "DELETE FROM order_items WHERE id % 6 <> 0")
    before = shop.warehouse()
    result = shop.run("run_etl", "--json", "--mode", "full")
    one_sentence(result, 5, "Blocking checks failed", "share deleted")
    said = json.loads(result.stdout)
    assert set(said) == KEYS and said["status"] == "failed"
    assert [check["name"] for check in said["checks"] if not check["passed"]] == ["share deleted"]
    assert shop.warehouse() == before and shop.runs()[-1]["cause_kind"] == "data"


def test_a_traceback_for_those_who_ask_for_it(shop: Shop) -> None:
    env = {"PAYMENTS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/x"}
    result = shop.run("run_etl", "-v", "3", env=env)
    assert result.returncode == 4
    assert result.stderr.startswith("Traceback (most recent call last):\n") and "topsecret" not in result.stderr
    assert result.stderr.splitlines()[-1] == shop.runs()[-1]["cause"]


@pytest.mark.parametrize("verbosity", [1, 3])
def test_a_bug_is_one_line_too(verbosity: int, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Command):
        def handle(self, **options: Any) -> None:
            raise ZeroDivisionError("spoilt\nby a test")

    with pytest.raises(SystemExit) as end:
        Broken().run_from_argv(["manage.py", "broken", "-v", str(verbosity)])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (1, "")
    said = "Unexpected ZeroDivisionError: spoilt by a test. This is a bug; -v 3 shows the traceback.\n"
    assert err == said if verbosity == 1 else err.startswith("Traceback") and err.endswith(said)
