"""make test-airflow: the DAGs in real Airflow, on a demo shop of SQLite files: parsed, green, and red when a source is down.

Airflow has its own virtual environment, kept in the user's cache folder: its packages conflict with TechMarket's.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DAGS = ROOT / "deploy" / "airflow" / "dags"
LOCK = ROOT / "deploy" / "airflow" / "requirements.txt"
DAILY, WEEKLY = "techmarket_etl_daily", "techmarket_etl_weekly_full"
CHAIN = {"check_sources": [], "check_warehouse": ["check_sources"], "run": ["check_warehouse"], "notify": ["run"]}
# `airflow dags test` waits as long between retries as a scheduler would.
SHORT_RETRIES = "\n\nfor each in (daily, weekly):\n    for every in each.tasks:\n        every.retry_delay = timedelta(seconds=1)\n"


class Failed(Exception):
    """Airflow did not do what is documented."""


def ensure(fact: bool, message: str) -> None:
    if not fact:
        raise Failed(message)


def ensure_environment() -> Path:
    """Return Airflow's virtual environment, created where there is none for this list of packages."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "techmarket"
    folder = cache / f"airflow-{hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]}"
    if (folder / "complete").exists():
        return folder
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--require-hashes", "-r", LOCK], check=True)
    (folder / "complete").touch()
    return folder


class Shop:
    """A demo shop with its own TechMarket and Airflow."""

    def __init__(self, airflow: Path, folder: Path, notify: str):
        self.bin, self.folder, self.notices = airflow / "bin", folder, notify
        self.dags, self.var = folder / "dags", folder / "var"
        self.env = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "VAR_DIR": str(self.var),
            "ENV_FILE": os.devnull,
            "TECHMARKET_MANAGE": f"{sys.executable} {ROOT / 'manage.py'}",
            "NOTIFY_URL": notify,
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        }

    def manage(self, *arguments: str) -> str:
        return self.run_command([sys.executable, str(ROOT / "manage.py"), *arguments])

    def airflow(self, *arguments: str) -> str:
        return self.run_command([str(self.bin / "airflow"), *arguments])

    def run_command(self, command: list[str]) -> str:
        result = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=600)
        ensure(
            result.returncode == 0, f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
        )
        return result.stdout

    def run(self, dag: str) -> tuple[int, str]:
        """Exit code and log of one run of a DAG."""
        result = subprocess.run([str(self.bin / "airflow"), "dags", "test", dag], env=self.env, capture_output=True, text=True, timeout=600)
        return result.returncode, result.stdout + result.stderr

    def run_successfully(self, dag: str) -> str:
        code, log = self.run(dag)
        ensure(code == 0, f"{dag}: exit code {code}\n{log[-5000:]}")
        return log

    def last_run(self) -> dict[str, Any]:
        """Return mode and state of the ledger's last run."""
        query = "from apps.orchestration.models import Run; print('%s %s' % Run.objects.order_by('-pk').values_list('mode', 'state')[0])"
        mode, state = self.manage("shell", "-v", "0", "-c", query).split()
        return {"mode": mode, "state": state}


@contextmanager
def receive_notices() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of a receiver of notices, and the list that collects them."""
    notices: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", notices
        server.shutdown()


def check_parsing(shop: Shop) -> None:
    """Check the DAGs as they are in the repository, without the shorter retries of the copy."""
    output_file = shop.folder / "facts.json"
    shop.run_command([str(shop.bin / "python"), str(ROOT / "tests" / "airflow" / "facts.py"), str(DAGS), str(output_file)])
    found = json.loads(output_file.read_text())
    ensure(found["errors"] == {}, f"import errors: {found['errors']}")
    for name, schedule, limit in ((DAILY, "0 2 * * *", 7_200), (WEEKLY, "0 3 * * 0", 14_400)):
        dag = found["dags"].pop(name)
        expected = {"schedule": schedule, "catchup": False, "max_active_runs": 1, "tasks": CHAIN, "limit": limit}
        ensure(dag.items() >= expected.items(), f"{name}: {dag}")
        ensure(all(dag["retries"][task] == [2, 300] for task in ("check_sources", "check_warehouse", "run")), f"{name}: {dag['retries']}")
    ensure(not found["dags"], f"unknown DAGs: {found['dags']}")


def check_success(shop: Shop) -> None:
    """Check that both DAGs succeed: the full one first, since an incremental run needs an earlier load."""
    for dag, mode in ((WEEKLY, "full"), (DAILY, "incremental")):
        shop.run_successfully(dag)
        ensure(shop.last_run() == {"mode": mode, "state": "succeeded"}, f"{dag}: {shop.last_run()}")


def check_failure(shop: Shop, notices: list[dict[str, Any]]) -> None:
    """Check that the DAG fails while the file of the source `orders` is broken, and succeeds once it is restored."""
    before = shop.last_run()
    orders = shop.var / "orders.sqlite3"
    away = orders.rename(shop.var / "away")
    orders.write_text("not a database at all")
    code, log = shop.run(DAILY)
    ensure(code != 0, f"green without a source\n{log[-5000:]}")
    ensure(log.count("is not an SQLite file. Correct ORDERS_DB_URL.") == 3, f"not tried three times, or without a reason\n{log[-5000:]}")
    ensure(shop.last_run() == before, "a run was started")
    ensure([(notice["event"], notice["schedule"]) for notice in notices] == [("failed", DAILY)], f"notices: {notices}")
    for rest in shop.var.glob("orders.sqlite3*"):
        rest.unlink()
    away.rename(orders)
    shop.run_successfully(DAILY)
    ensure([notice["event"] for notice in notices] == ["failed", "recovered"], f"notices: {notices}")


def check_skip(shop: Shop, notices: list[dict[str, Any]]) -> None:
    """Check that the DAG is skipped while another run is active: a queued one, which no worker executes."""
    number = shop.manage("run_etl", "--no-wait").strip()
    log = shop.run_successfully(DAILY)
    ensure("new_state=skipped" in log, f"not skipped\n{log[-5000:]}")
    ensure(len(notices) == 2, f"a notice was sent: {notices}")
    shop.manage("run_etl", "--cancel", number, "--reason", "test")


def step(message: str, began: float) -> float:
    print(f"airflow: {message} ({time.monotonic() - began:.0f} s)", flush=True)
    return time.monotonic()


def main() -> int:
    clock = time.monotonic()
    airflow = ensure_environment()
    folder = Path(tempfile.mkdtemp(prefix="techmarket-airflow-"))
    try:
        with receive_notices() as (address, notices):
            shop = Shop(airflow, folder, address)
            clock = step(f"environment {airflow}", clock)
            check_parsing(shop)
            clock = step("both DAGs parsed: schedules, limits, retries, order of tasks", clock)
            shop.dags.mkdir()
            for dag in DAGS.glob("*.py"):
                (shop.dags / dag.name).write_text(dag.read_text() + SHORT_RETRIES)
            shop.manage("migrate_all", "-v", "0")
            shop.manage("generate_data", "--orders", "60", "--quiet")
            shop.airflow("db", "migrate")
            clock = step(f"a demo shop; Airflow {shop.airflow('version').split()[-1]}", clock)
            check_success(shop)
            clock = step("both DAGs green, and their runs in the ledger", clock)
            check_failure(shop, notices)
            clock = step("red after three tries without the source orders, with a notice; green again, with another", clock)
            check_skip(shop, notices)
            step("skipped while another run is active", clock)
        return 0
    except (Failed, subprocess.SubprocessError) as error:
        print(f"make test-airflow: FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
