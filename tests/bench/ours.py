"""Our own runs, and the phases that their time goes into."""

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

from tests.bench.harness import FOLDER, ROOT, database_name, manage, run_sql
from tests.bench.measure import Cost, Failed, measure

# Phases of the publishing transaction, by how their statements begin.
PHASES = {
    "copy": ("COPY fact_sales", "COPY stage", "COPY dim", "TRUNCATE", "CREATE T", "DROP TABLE"),
    "keys": ("ALTER TABLE fact_sales_% ADD", "CREATE INDEX", "ANALYZE", "SET CONSTRAINTS"),
    "merge": ("INSERT", "UPDATE", "DELETE", "ALTER TABLE fact_sales DETACH", "ALTER TABLE fact_sales ATTACH"),
    "commit": ("COMMIT",),
    "checks": ("SELECT",),
}
WRITES = ("inserted", "updated", "deleted", "derived")
EMBEDDED = ("AUTH_DB_URL", "CATALOG_DB_URL", "ORDERS_DB_URL", "PAYMENTS_DB_URL", "DWH_URL", "CONTROL_DB_URL", "CELERY_BROKER_URL")


def run(mode: str, *more: str, **env: str) -> tuple[Cost, dict[str, Any]]:
    """Execute a run with the command. Return its cost and the JSON document that it prints."""
    used = manage("run_etl", "--mode", mode, "--json", *more, **env)
    return used, json.loads(used.output)


def count_written(document: dict[str, Any]) -> int:
    """Return the number of rows written to the warehouse."""
    return sum(table[kind] for table in document["tables"].values() for kind in WRITES)


# --- Phases ---


def reset_statement_stats() -> bool:
    """Reset the statement statistics. Return False where the server was not started with pg_stat_statements."""
    try:
        run_sql("DWH_URL", "CREATE SCHEMA IF NOT EXISTS bench")
        run_sql("DWH_URL", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA bench")
        run_sql("DWH_URL", "SELECT bench.pg_stat_statements_reset()")
    except psycopg.Error:
        return False
    return True


def phase_seconds() -> dict[str, float]:
    """Return seconds by phase. read and transform: sums over the ledger's tasks, which may run in parallel; land: the part of them that
    writes batches to the control database. The others: the warehouse's statements during the load."""
    seconds = dict(
        run_sql(
            "CONTROL_DB_URL",
            "SELECT stage, EXTRACT(EPOCH FROM sum(finished_at - started_at))::float FROM orchestration_task "
            "WHERE run_id = (SELECT max(id) FROM orchestration_run) GROUP BY stage",
        )
    )
    found = {
        "read": seconds.get("extract", 0.0),
        "transform": seconds.get("transform", 0.0),
        "land": statement_seconds("CONTROL_DB_URL", ("COPY orchestration_batch",)),
    }
    found |= {phase: statement_seconds("DWH_URL", beginnings) for phase, beginnings in PHASES.items()}
    return {phase: round(each, 2) for phase, each in found.items()}


def statement_seconds(variable: str, beginnings: tuple[str, ...]) -> float:
    """Return the server's seconds in this database for statements with these beginnings."""
    likes = " OR ".join(f"query LIKE '{each}%'" for each in beginnings)
    [(total,)] = run_sql(
        "DWH_URL",
        f"SELECT coalesce(sum(total_exec_time), 0)::float / 1000 FROM bench.pg_stat_statements JOIN pg_database AS d ON d.oid = dbid "
        f"WHERE datname = '{database_name(variable)}' AND ({likes})",
    )
    return float(total)


def wal_mb() -> dict[str, float]:
    """Return the MB of WAL by database since the statistics were reset."""
    [(dwh, control)] = run_sql(
        "DWH_URL",
        "SELECT "
        + ", ".join(
            f"coalesce(sum(wal_bytes) FILTER (WHERE datname = '{database_name(variable)}'), 0)::float / 1e6"
            for variable in ("DWH_URL", "CONTROL_DB_URL")
        )
        + " FROM bench.pg_stat_statements JOIN pg_database AS d ON d.oid = dbid",
    )
    return {"warehouse": round(dwh, 1), "ledger": round(control, 1)}


# --- Other ways to execute a run ---


@contextmanager
def run_workers(count: int) -> Iterator[None]:
    """Run `count` workers of one process each, which execute queued runs until the block is left."""
    logs = [FOLDER / f"worker-{number}.log" for number in range(count)]
    started = [start_worker(number, log) for number, log in enumerate(logs)]
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


def start_worker(number: int, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "celery", "-A", "techmarket", "worker", "--concurrency", "1", "-n", f"bench{number}@%h", "-l", "info"]
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def run_on_sqlite() -> Cost:
    """Execute a full run of the demo shop with all six databases in SQLite files."""
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if key not in EMBEDDED} | {"VAR_DIR": folder}
        for arguments in (["migrate_all", "-v", "0"], ["generate_data", "--quiet"], ["run_etl", "--mode", "full", "--json"]):
            used = measure([sys.executable, str(ROOT / "manage.py"), *arguments], env, FOLDER / "embedded.log")
    return used
