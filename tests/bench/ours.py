"""Our own runs, and what their time went into."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.bench.harness import FOLDER, ROOT, ask, manage, name
from tests.bench.measure import Cost, Failed, cost

# What a statement of the publishing transaction is for, by how it begins.
PHASES = {
    "copy": ("COPY fact_sales", "COPY stage", "COPY dim", "TRUNCATE", "CREATE T", "DROP TABLE"),
    "keys": ("ALTER TABLE fact_sales_% ADD", "CREATE INDEX", "ANALYZE", "SET CONSTRAINTS"),
    "merge": ("INSERT", "UPDATE", "DELETE", "ALTER TABLE fact_sales DETACH", "ALTER TABLE fact_sales ATTACH"),
    "commit": ("COMMIT",),
    "checks": ("SELECT",),
}
WRITES = ("inserted", "updated", "deleted", "derived")
EMBEDDED = ("AUTH_DB_URL", "CATALOG_DB_URL", "ORDERS_DB_URL", "PAYMENTS_DB_URL", "DWH_URL", "CONTROL_DB_URL", "CELERY_BROKER_URL")


def run(mode: str, *more: str) -> tuple[Cost, dict[str, Any]]:
    """A run by the command, as a shell or cron would start it, and the document that it prints."""
    used = manage("run_etl", "--mode", mode, "--json", *more)
    return used, json.loads(used.said)


def written(document: dict[str, Any]) -> int:
    """Rows written to the star."""
    return sum(table[kind] for table in document["tables"].values() for kind in WRITES)


# --- Phases ---


def forget_statements() -> bool:
    """Whether the server counts its statements at all: it must have been started with pg_stat_statements."""
    try:
        ask("DWH_URL", "CREATE SCHEMA IF NOT EXISTS bench")
        ask("DWH_URL", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA bench")
        ask("DWH_URL", "SELECT bench.pg_stat_statements_reset()")
    except psycopg.Error:
        return False
    return True


def phases() -> dict[str, float]:
    """Seconds. read and transform: of the ledger's tasks, side by side where processes were; land: of them, the batches' way into the
    control database. The others: the warehouse's own, of the load."""
    seconds = dict(
        ask(
            "CONTROL_DB_URL",
            "SELECT stage, EXTRACT(EPOCH FROM sum(finished_at - started_at))::float FROM orchestration_task "
            "WHERE run_id = (SELECT max(id) FROM orchestration_run) GROUP BY stage",
        )
    )
    found = {"read": seconds["extract"], "transform": seconds["transform"], "land": spent("CONTROL_DB_URL", ("COPY orchestration_batch",))}
    found |= {phase: spent("DWH_URL", beginnings) for phase, beginnings in PHASES.items()}
    return {phase: round(each, 2) for phase, each in found.items()}


def spent(variable: str, beginnings: tuple[str, ...]) -> float:
    """Seconds of the server, in this database, for statements that begin so."""
    likes = " OR ".join(f"query LIKE '{each}%'" for each in beginnings)
    [(total,)] = ask(
        "DWH_URL",
        f"SELECT coalesce(sum(total_exec_time), 0)::float / 1000 FROM bench.pg_stat_statements JOIN pg_database AS d ON d.oid = dbid "
        f"WHERE datname = '{name(variable)}' AND ({likes})",
    )
    return float(total)


def wal() -> dict[str, float]:
    """MB of WAL by database since the statements were forgotten."""
    [(dwh, control)] = ask(
        "DWH_URL",
        "SELECT "
        + ", ".join(
            f"coalesce(sum(wal_bytes) FILTER (WHERE datname = '{name(variable)}'), 0)::float / 1e6"
            for variable in ("DWH_URL", "CONTROL_DB_URL")
        )
        + " FROM bench.pg_stat_statements JOIN pg_database AS d ON d.oid = dbid",
    )
    return {"warehouse": round(dwh, 1), "ledger": round(control, 1)}


# --- Others than one command on servers ---


def on_workers(count: int) -> Cost:
    """A full run, handed to so many workers of one process each."""
    with workers(count):
        return run("full", "--queue")[0]


@contextmanager
def workers(count: int) -> Iterator[None]:
    logs = [FOLDER / f"worker-{number}.log" for number in range(count)]
    started = [worker(number, log) for number, log in enumerate(logs)]
    try:
        deadline = time.monotonic() + 60
        while not all(" ready." in log.read_text() for log in logs):
            if time.monotonic() > deadline:
                raise Failed(f"a worker is not ready after 60 s: {logs[0].read_text()[-300:]}")
            time.sleep(0.1)
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()


def worker(number: int, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "celery", "-A", "techmarket", "worker", "--concurrency", "1", "-n", f"bench{number}@%h", "-l", "info"]
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def embedded() -> Cost:
    """A full run of the demo shop, all six databases in SQLite files."""
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if key not in EMBEDDED} | {"VAR_DIR": folder}
        for arguments in (["migrate_all", "-v", "0"], ["generate_data", "--quiet"], ["run_etl", "--mode", "full", "--json"]):
            used = cost([sys.executable, str(ROOT / "manage.py"), *arguments], env, FOLDER / "embedded.log")
    return used
