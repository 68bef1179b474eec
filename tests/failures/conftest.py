"""A shop with a loaded warehouse and changes not loaded yet: in SQLite files, or on servers where the settings name some.

Each test gets its own copy, which it may damage.
"""

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from techmarket.messages import load
from tests import prepared
from tests.conftest import PASSED_ON, ROOT
from tests.servers import MYSQL, POSTGRES, mysql, postgresql, with_database

ON_SERVERS = not settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
FILES = {"default": "control", "dwh": "dwh", "auth_db": "auth", "catalog_db": "catalog", "orders_db": "orders", "payments_db": "payments"}
PROCESS_TIMEOUT_S = 300.0  # a process that has not ended by then hangs, even on a busy machine
SECRET = "topsecret"
SLOW = {"ETL_BATCH_ORDERS": "20", "ETL_HEARTBEAT_SECONDS": "1"}  # 600 orders in 30 slices: about two seconds
needs_servers = pytest.mark.skipif(not ON_SERVERS, reason="needs servers: `make test` runs it a second time, with them")
needs_files = pytest.mark.skipif(ON_SERVERS, reason="concerns SQLite files: the first pass of `make test` runs it")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk or switch to the user nobody")
Rows = list[tuple[Any, ...]]


class Shop:
    """Six databases, and `manage.py` run on them."""

    def __init__(self, folder: Path, urls: dict[str, str]):
        self.folder = folder
        self.urls = urls
        self.env = {"VAR_DIR": str(folder), "ENV_FILE": os.devnull, "ETL_ATTEMPTS": "1"} | {
            settings.VARIABLES[alias]: url for alias, url in urls.items()
        }
        self.started: list[subprocess.Popen[str]] = []

    def sql(self, alias: str, query: str) -> Rows:
        with closing(self.connect(alias)) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            rows = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
            return rows

    def connect(self, alias: str) -> Any:
        """Open a session beside the command's, on servers as the administrator."""
        if not ON_SERVERS:
            return sqlite3.connect(self.folder / f"{FILES[alias]}.sqlite3", timeout=30)
        if alias in settings.SOURCES:
            connection = mysql(os.environ["TEST_MYSQL_URL"])
            connection.select_db(self.name(alias))
            return connection
        return psycopg.connect(with_database(os.environ["TEST_POSTGRES_URL"], self.name(alias)), connect_timeout=10)

    def name(self, alias: str) -> str:
        return self.urls[alias].rsplit("/", 1)[1]

    def start(self, *args: str, env: dict[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
        return self.start_python(str(ROOT / "manage.py"), *args, env=env, **options)

    def start_python(self, *args: str, env: dict[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, *args],
            env=passed_on | self.env | (env or {}),
            text=True,
            encoding="utf-8",
            **{"cwd": ROOT} | pipes | options,
        )
        self.started.append(process)
        return process

    def run(self, *args: str, env: dict[str, str] | None = None, **options: Any) -> "subprocess.CompletedProcess[str]":
        if prepared.can_run(env or {}, options):
            passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            return prepared.run(*args, env=passed_on | self.env | (env or {}), cwd=ROOT, timeout=PROCESS_TIMEOUT_S)
        return wait_for_exit(self.start(*args, env=env, **options))

    def runs(self) -> list[dict[str, Any]]:
        names = ("id", "state", "cause", "cause_kind", "overlaps_id")
        query = f"SELECT {', '.join(names)} FROM orchestration_run ORDER BY id"
        rows = [dict(zip(names, row, strict=True)) for row in self.sql("default", query)]
        return [row | {"cause": read_message(row["cause"])} for row in rows]

    def tasks(self, state: str) -> set[tuple[str, str]]:
        """Return stage and subject of the last run's tasks in this state."""
        last = "(SELECT MAX(id) FROM orchestration_run)"
        return set(self.sql("default", f"SELECT stage, subject FROM orchestration_task WHERE state = '{state}' AND run_id = {last}"))

    def warehouse(self) -> str:
        """Return a digest of every row of every warehouse table: if it is unchanged, nothing was written."""
        digest = hashlib.sha256()
        for table in ("dim_date", "dim_region", "dim_category", "dim_product", "dim_customer", "dim_employee", "fact_sales", "etl_load"):
            digest.update(repr(sorted(map(repr, self.sql("dwh", f"SELECT * FROM {table}")))).encode())
        return digest.hexdigest()

    def wait_until(self, condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + PROCESS_TIMEOUT_S
        while not condition():
            assert process.poll() is None, f"the process has exited already: {process.communicate()}"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stage_running(self, stage: str) -> Callable[[], bool]:
        return lambda: any(stage == task for task, _ in self.tasks("running"))


def read_message(stored: Any) -> str:
    """Return the English sentence of a message column: PostgreSQL gives JSON decoded, SQLite as text."""
    return str(load(json.loads(stored) if isinstance(stored, str) and stored[:1] in ("{", '"') else stored))


def terminate_sessions(shop: Shop, alias: str) -> None:
    shop.sql(
        alias,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'techmarket'",
    )


def create_databases(mysql_url: str, postgres_url: str) -> None:
    """Create the databases of a shop, and for each one to restore it into."""
    with mysql(mysql_url) as connection, connection.cursor() as cursor:
        for name in MYSQL.values():
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            cursor.execute(f"CREATE DATABASE restored_{name} CHARACTER SET utf8mb4")
    with postgresql(postgres_url) as session:
        for name in POSTGRES.values():
            session.execute(f"CREATE DATABASE {name}")
            session.execute(f"CREATE DATABASE restored_{name}")


def end_waiting_sessions(shop: Shop) -> bool:
    """End the sessions of the orders' service that wait for a table, in a statement. Return True if there was one."""
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        query = "SELECT id FROM information_schema.processlist WHERE db = %s AND state LIKE 'Waiting for table%%'"
        cursor.execute(query, [shop.name("orders_db")])
        numbers = [number for (number,) in cursor.fetchall()]
        for number in numbers:
            with suppress(other.OperationalError):  # it has ended by itself
                cursor.execute(f"KILL {number}")
    return bool(numbers)


def wait_for_exit(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    out, err = process.communicate(timeout=PROCESS_TIMEOUT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def assert_one_line(result: "subprocess.CompletedProcess[str]", code: int, *parts: str) -> None:
    """Assert the exit code, and that stderr is one sentence on one line which contains the parts and no secret."""
    assert result.returncode == code, result.stderr
    assert result.stderr.endswith(".\n") and result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr, result.stderr
    assert SECRET not in result.stderr and not any(password in result.stderr for password in passwords())


def passwords() -> list[str]:
    """Return the servers' passwords, without short ones: those may occur in ordinary text."""
    urls = (os.environ.get(name, "") for name in ("TEST_MYSQL_URL", "TEST_POSTGRES_URL"))
    found = [url.split("@")[0].rsplit(":", 1)[1] for url in urls if "@" in url]
    return [password for password in found if len(password) > 7]


# --- The template and its copies ---


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    urls = {}
    prefix = f"shop_{secrets.token_hex(4)}"
    if ON_SERVERS:
        if not {"TEST_MYSQL_URL", "TEST_POSTGRES_URL"} <= os.environ.keys():
            pytest.skip("needs an administrator: run it under tests/servers.py")
        urls = {alias: address(alias, f"{prefix}_{file}") for alias, file in FILES.items()}
        for alias in FILES:
            administer(alias, f"CREATE DATABASE {prefix}_{FILES[alias]}" + (" CHARACTER SET utf8mb4" if alias in settings.SOURCES else ""))
    shop = Shop(tmp_path_factory.mktemp("template"), urls)
    for command in (
        ("migrate_all", "-v", "0"),
        ("generate_data", "--quiet"),
        ("run_etl", "--quiet"),
        ("generate_data", "--changes", "30", "--quiet"),
    ):
        result = shop.run(*command)
        assert result.returncode == 0, result.stderr
    yield shop
    for alias in urls:
        administer(alias, f"DROP DATABASE {prefix}_{FILES[alias]}")


@pytest.fixture
def shop(template: Shop, tmp_path: Path) -> Iterator[Shop]:
    copies: dict[str, str] = {}
    suffix = secrets.token_hex(4)
    try:
        if ON_SERVERS:
            copies = {alias: f"{template.name(alias)}_{suffix}" for alias in FILES}
            for alias, name in copies.items():
                copy_database(alias, template.name(alias), name)
        else:
            shutil.copytree(template.folder, tmp_path, dirs_exist_ok=True)
        shop = Shop(tmp_path, {alias: address(alias, name) for alias, name in copies.items()})
        yield shop
        for process in shop.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
    finally:
        for alias, name in copies.items():
            administer(alias, f"DROP DATABASE IF EXISTS {name}" + ("" if alias in settings.SOURCES else " WITH (FORCE)"))


def address(alias: str, name: str) -> str:
    return with_database(os.environ["TEST_MYSQL_URL" if alias in settings.SOURCES else "TEST_POSTGRES_URL"], name)


def administer(alias: str, statement: str) -> None:
    connection = mysql(os.environ["TEST_MYSQL_URL"]) if alias in settings.SOURCES else postgresql(os.environ["TEST_POSTGRES_URL"])
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)


def copy_database(alias: str, old: str, new: str) -> None:
    if alias not in settings.SOURCES:
        administer(alias, f"CREATE DATABASE {new} TEMPLATE {old}")
        return
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {new} CHARACTER SET utf8mb4")
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [old])
        for (table,) in cursor.fetchall():
            cursor.execute(f"CREATE TABLE {new}.{table} LIKE {old}.{table}")
            cursor.execute(f"INSERT INTO {new}.{table} SELECT * FROM {old}.{table}")
