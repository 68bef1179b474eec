"""The rights of etl_reader, etl_web, etl_worker and bi_reader, on servers set up by the scripts of deploy/ as containers run them."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, build_opener

import MySQLdb
import psycopg
import pytest
from django.conf import settings
from django.urls import reverse

from apps.bi.questions import questions
from tests.bi.metabase import render_query
from tests.conftest import ROOT
from tests.servers import Server, free_port, mysql, postgresql, start_mysql, start_postgres, with_database

pytestmark = pytest.mark.skipif(
    settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="needs servers: `make test` runs it on them"
)
READER_PASSWORD = 'it\'s \\ a "reader" ґ'
SOURCES = ("auth_db", "catalog_db", "orders_db", "payments_db")
READABLE_TABLES = (
    "dim_date",
    "dim_region",
    "dim_category",
    "dim_product",
    "dim_customer",
    "dim_employee",
    "fact_sales",
    "data_as_of",
    "kpi_orders",
    "kpi_lines",
)
PRODUCTION = {"DEBUG": "false", "SECRET_KEY": secrets.token_urlsafe(48), "ALLOWED_HOSTS": "etl.example.com"}
NEW_USER = (
    "INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, date_joined) "
    "VALUES ('{name}', '', '', '', '', {superuser}, true, true, now())"
)


@dataclass
class Stack:
    """The URLs of both servers, and those of each user by variable."""

    mysql: str
    postgres: str

    def owners(self) -> dict[str, str]:
        sources = {settings.VARIABLES[name]: as_user(self.mysql, name.replace("_db", "_user"), name, "own") for name in SOURCES}
        return sources | self.warehouse_owners()

    def workers(self) -> dict[str, str]:
        return self.readers() | {
            "CONTROL_DB_URL": as_user(self.postgres, "etl_worker", "control", "worker's"),
            "DWH_URL": self.warehouse_owners()["DWH_URL"],
        }

    def web(self) -> dict[str, str]:
        return self.readers() | {
            "CONTROL_DB_URL": as_user(self.postgres, "etl_web", "control", "web's"),
            "DWH_URL": as_user(self.postgres, "etl_web", "dwh", "web's"),
        }

    def readers(self) -> dict[str, str]:
        return {settings.VARIABLES[name]: as_user(self.mysql, "etl_reader", name, READER_PASSWORD) for name in SOURCES}

    def warehouse_owners(self) -> dict[str, str]:
        return {
            "CONTROL_DB_URL": as_user(self.postgres, "control_user", "control", "control's"),
            "DWH_URL": as_user(self.postgres, "dwh_user", "dwh", "dwh's"),
        }

    def bi(self, database: str = "dwh") -> str:
        return as_user(self.postgres, "bi_reader", database, "bi's")


def as_user(url: str, user: str, database: str, password: str) -> str:
    address = urlsplit(url)
    return address._replace(netloc=f"{user}:{quote(password, safe='')}@{address.hostname}:{address.port}", path=f"/{database}").geturl()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two servers with the demo shop, loaded by a worker as in a container."""
    folder = Path(tempfile.mkdtemp(prefix="techmarket-rights-"))
    folder.chmod(0o711)
    servers = [Server(folder / "mysql"), Server(folder / "postgres")]
    try:
        stack = Stack(start_mysql(servers[0]), start_postgres(servers[1]))
        for name in SOURCES:
            prepare_source(stack.mysql, name)
        prepare_warehouse(stack.postgres)
        var = tmp_path_factory.mktemp("var")
        for command, urls in (
            (("migrate_all", "-v", "0"), stack.owners()),
            (("generate_data", "--orders", "60", "--quiet"), stack.owners()),
            (("run_etl", "--mode", "full", "--quiet"), stack.workers()),
        ):
            manage(var, urls, *command)
        with psycopg.connect(stack.warehouse_owners()["CONTROL_DB_URL"]) as connection:
            connection.execute(NEW_USER.format(name="viewer", superuser=False).encode())
        yield stack
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def manage(var: Path, urls: dict[str, str], *command: str) -> str:
    env = {"PATH": os.environ["PATH"], "VAR_DIR": str(var), "ENV_FILE": os.devnull}
    result = subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=env | urls, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def prepare_source(url: str, name: str) -> None:
    """Do what the MySQL image does with MYSQL_DATABASE and MYSQL_USER, then run reader.sh."""
    root = secrets.token_hex(8)
    with closing(mysql(url)) as connection, connection.cursor() as cursor:
        for statement in (
            f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{root}'",
            "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
            f"CREATE DATABASE {name}",
            f"CREATE USER {name.replace('_db', '_user')}@'%' IDENTIFIED BY 'own'",
            f"GRANT ALL ON `{name.replace('_', chr(92) + '_')}`.* TO {name.replace('_db', '_user')}@'%'",
        ):
            cursor.execute(statement)
    address = urlsplit(url)
    source_script(
        "deploy/mysql/reader.sh",
        MYSQL_HOST=str(address.hostname),
        MYSQL_TCP_PORT=str(address.port),
        MYSQL_DATABASE=name,
        MYSQL_USER=name.replace("_db", "_user"),
        MYSQL_ROOT_PASSWORD=root,
        ETL_READER_PASSWORD=READER_PASSWORD,
    )


def prepare_warehouse(url: str) -> None:
    address = urlsplit(url)
    (secret := Path(tempfile.mkdtemp()) / "bi").write_text("bi's")
    source_script(
        "deploy/postgres/roles.sh",
        PGHOST=str(address.hostname),
        PGPORT=str(address.port),
        PGPASSWORD=str(address.password),
        POSTGRES_USER=str(address.username),
        DWH_DB_PASSWORD="dwh's",
        CONTROL_DB_PASSWORD="control's",
        ETL_WEB_PASSWORD="web's",
        ETL_WORKER_PASSWORD="worker's",
        BI_READER_PASSWORD_FILE=str(secret),
    )


def source_script(script: str, **env: str) -> None:
    """Source the script in a shell with set -e, as the entrypoints of the images do with scripts without an execute bit."""
    command = ["bash", "-c", f"set -eo pipefail; . {ROOT / script}"]
    result = subprocess.run(command, env={"PATH": os.environ["PATH"]} | env, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


def fetch_rows(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, connect_timeout=10) as connection:
        return connection.execute(query).fetchall()


# --- etl_reader ---


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {table} (id) VALUES (1)",
        "UPDATE {table} SET updated_at = NOW()",
        "DELETE FROM {table}",
        "TRUNCATE TABLE {table}",
        "DROP TABLE {table}",
        "ALTER TABLE {table} ADD COLUMN more INT",
        "CREATE TABLE more (id INT)",
        "CREATE INDEX more ON {table} (id)",
        "CREATE VIEW more AS SELECT 1",
        "CREATE TEMPORARY TABLE more (id INT)",
        "CREATE DATABASE more",
        "CREATE USER more",
        "GRANT SELECT ON *.* TO etl_reader@'%'",
        "LOCK TABLES {table} WRITE",
        "SELECT * FROM {table} INTO OUTFILE '/tmp/techmarket-never'",
        "SELECT * FROM mysql.user",
    ],
)
def test_etl_reader_may_only_read(stack: Stack, source: str, statement: str) -> None:
    table = {"auth_db": "auth_users", "catalog_db": "products", "orders_db": "orders", "payments_db": "payments"}[source]
    reader = as_user(stack.mysql, "etl_reader", source, READER_PASSWORD)
    with closing(mysql(reader)) as connection, connection.cursor() as cursor:
        connection.select_db(source)
        cursor.execute(f"SELECT COUNT(*) FROM {table}")
        before = cursor.fetchone()
        assert before[0] > 0
        with pytest.raises(MySQLdb.Error) as error:
            cursor.execute(statement.format(table=table))
        assert error.value.args[0] in (1044, 1045, 1142, 1227), error.value  # the four codes of access denied
        cursor.execute(f"SELECT COUNT(*) FROM {table}")
        assert cursor.fetchone() == before


def test_underscore_in_the_grant_is_no_wildcard(stack: Stack) -> None:
    with closing(mysql(stack.mysql)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE ordersXdb")
    with closing(mysql(as_user(stack.mysql, "etl_reader", "", READER_PASSWORD))) as connection:
        with pytest.raises(MySQLdb.Error, match="Access denied"):
            connection.select_db("ordersXdb")
        connection.select_db("orders_db")


# --- bi_reader ---


def test_bi_reader_reads_the_warehouse(stack: Stack) -> None:
    assert [table for table in READABLE_TABLES if not fetch_rows(stack.bi(), f"SELECT 1 FROM {table} LIMIT 1")] == []


def test_bi_reader_reads_the_age_of_the_data(stack: Stack) -> None:
    latest = fetch_rows(stack.warehouse_owners()["DWH_URL"], "SELECT max(high_water_mark) FROM etl_load")
    assert fetch_rows(stack.bi(), "SELECT * FROM data_as_of") == latest and latest[0][0]


def test_bi_reader_may_run_every_metabase_question(stack: Stack) -> None:
    for question in questions():
        sql, values = render_query(question.sql, {})
        rows = fetch_rows(stack.bi(), sql)
        assert not values and (rows or question.slug == "balances"), question.slug  # the demo shop's payments fit


def test_grant_is_on_the_partitioned_table(stack: Stack) -> None:
    """The full load has replaced the partition, and bi_reader can still read the table."""
    partition = fetch_rows(
        stack.warehouse_owners()["DWH_URL"], "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass"
    )
    assert partition == [("fact_sales_1",)]


def test_bi_reader_may_read_no_other_table(stack: Stack) -> None:
    """Read from the catalog, which includes tables that are added later."""
    readable = (
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema') "
        "AND has_schema_privilege(n.oid, 'USAGE') AND (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') "
        "ELSE has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END)"
    )
    assert {row[0] for row in fetch_rows(stack.bi(), readable)} == {f"public.{table}" for table in READABLE_TABLES}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM etl_load",
        "SELECT * FROM django_migrations",
        "SELECT * FROM fact_sales_1",
        "SELECT passwd FROM pg_shadow",
        "INSERT INTO dim_region (region_key) VALUES (9)",
        "UPDATE fact_sales SET quantity = 1",
        "DELETE FROM fact_sales",
        "TRUNCATE fact_sales",
        "DROP TABLE fact_sales",
        "DO 'BEGIN LOCK TABLE fact_sales; END'",
        "CREATE TABLE more (id int)",
        "CREATE TEMPORARY TABLE more (id int)",
        "CREATE SCHEMA more",
        "CREATE DATABASE more",
        "CREATE ROLE more",
        "GRANT SELECT ON etl_load TO bi_reader",
        "ALTER ROLE bi_reader CONNECTION LIMIT -1",
        "SET ROLE dwh_user",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, '')",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY fact_sales TO PROGRAM 'cat'",
    ],
)
def test_bi_reader_may_do_nothing_else(stack: Stack, statement: str) -> None:
    """Also after it has turned off its read-only default."""
    with psycopg.connect(stack.bi(), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize("database", ["control", "postgres", "template1"])
def test_bi_reader_may_connect_to_no_other_database(stack: Stack, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(stack.bi(database), connect_timeout=10)


def test_owners_may_not_connect_to_each_others_databases(stack: Stack) -> None:
    owners = stack.warehouse_owners()
    for url, other in ((owners["DWH_URL"], "control"), (owners["CONTROL_DB_URL"], "dwh")):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(with_database(url, other), connect_timeout=10)


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry"])
def test_not_even_the_owner_may_change_the_audit_log(stack: Stack, statement: str) -> None:
    url = stack.warehouse_owners()["CONTROL_DB_URL"]
    assert fetch_rows(url, "SELECT count(*) FROM audit_entry WHERE deed = 'run_started'") == [(1,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for table audit_entry"):
        fetch_rows(url, statement)


def test_migrate_all_restores_a_lost_grant(stack: Stack, tmp_path: Path) -> None:
    """A restore can leave grants out."""
    with closing(postgresql(with_database(stack.postgres, "dwh"))) as connection:
        connection.execute("REVOKE ALL ON fact_sales, dim_date FROM bi_reader")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        fetch_rows(stack.bi(), "SELECT 1 FROM fact_sales LIMIT 1")
    manage(tmp_path, stack.owners(), "migrate_all", "-v", "0")
    assert fetch_rows(stack.bi(), "SELECT 1 FROM fact_sales JOIN dim_date USING (date_key) LIMIT 1") == [(1,)]


# --- The owners ---


def test_owners_back_up_verify_and_restore(stack: Stack, tmp_path: Path) -> None:
    """Follows docs/OPERATIONS.md with only the rights of the scripts; bi_reader can read the same as before."""
    before = fetch_rows(stack.bi(), "SELECT SUM(net_amount), COUNT(*) FROM fact_sales")
    assert "was restored and is equal" in manage(tmp_path, stack.owners(), "backup", "--verify")
    with closing(postgresql(stack.postgres)) as connection:
        for statement in (
            "DROP DATABASE dwh WITH (FORCE)",
            "CREATE DATABASE dwh OWNER dwh_user TEMPLATE template0",
            "REVOKE ALL ON DATABASE dwh FROM PUBLIC",
            "GRANT CONNECT ON DATABASE dwh TO etl_web, bi_reader",
        ):
            connection.execute(statement)
    with closing(mysql(stack.mysql)) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE orders_db")
        cursor.execute("CREATE DATABASE orders_db CHARACTER SET utf8mb4")
    name = next((tmp_path / "backups").glob("2*")).name
    output = manage(tmp_path, stack.owners(), "restore", name, "--only", "dwh", "--only", "orders_db")
    assert "equal to its manifest" in output
    assert fetch_rows(stack.bi(), "SELECT SUM(net_amount), COUNT(*) FROM fact_sales") == before
    with psycopg.connect(stack.bi()) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM etl_load")
    assert fetch_rows(stack.warehouse_owners()["DWH_URL"], "SELECT has_schema_privilege('public', 'public', 'USAGE')") == [(False,)]
    manage(tmp_path, stack.workers(), "run_etl", "--mode", "full", "--quiet")


def test_reader_may_not_back_up(stack: Stack, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull} | stack.readers() | stack.warehouse_owners()
    result = subprocess.run([sys.executable, "manage.py", "backup"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 4
    assert result.stderr.endswith(
        "user 'etl_reader' may not lock tables, which a backup does briefly. Run GRANT LOCK TABLES ON `auth_db`.* TO 'etl_reader'@'%'.\n"
    )
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".lock"]


def test_ping_reports_rights(stack: Stack, tmp_path: Path) -> None:
    def rights(urls: dict[str, str]) -> list[str]:
        return [part["rights"] for part in json.loads(manage(tmp_path, urls, "ping", "--databases", "--json"))["parts"]]

    assert rights(stack.workers()) == ["write"] * 2 + ["read only"] * 4
    assert rights(stack.web()) == ["write"] + ["read only"] * 5
    assert rights(stack.owners()) == ["write"] * 6


# --- etl_web and etl_worker ---


@pytest.mark.parametrize(
    ("database", "statement"),
    [
        ("dwh", "INSERT INTO dim_region (region_key) VALUES (9)"),
        ("dwh", "UPDATE fact_sales SET quantity = 1"),
        ("dwh", "DELETE FROM dim_customer"),
        ("dwh", "TRUNCATE etl_load"),
        ("dwh", "UPDATE etl_order SET order_id = 1"),
        ("dwh", "DROP VIEW kpi_orders"),
        ("dwh", "CREATE TABLE more (id int)"),
        ("dwh", "CREATE TEMPORARY TABLE more (id int)"),
        ("dwh", "ALTER TABLE fact_sales DETACH PARTITION fact_sales_1"),
        ("dwh", "SET ROLE dwh_user"),
        ("control", NEW_USER.format(name="new", superuser=True)),
        ("control", "UPDATE auth_user SET is_superuser = true WHERE username = 'viewer'"),
        ("control", "UPDATE auth_user SET id = 999, is_superuser = true"),
        ("control", "DELETE FROM auth_user"),
        ("control", "ALTER TABLE auth_user DISABLE TRIGGER auth_user_superuser"),
        ("control", "DROP FUNCTION auth_user_refuse_superuser() CASCADE"),
        ("control", "SET session_replication_role = replica"),
        ("control", "SET ROLE control_user"),
        ("control", "SET ROLE etl_worker"),
        ("control", "DELETE FROM orchestration_run"),
        ("control", "UPDATE orchestration_checkresult SET passed = true"),
        ("control", "UPDATE orchestration_rowcount SET read = 0"),
        ("control", "INSERT INTO orchestration_batch DEFAULT VALUES"),
        ("control", "SELECT body FROM orchestration_batch"),
        ("control", "UPDATE audit_entry SET actor = 'x'"),
        ("control", "DELETE FROM audit_entry"),
        ("control", "SELECT audit_entry_delete(1)"),
        ("control", "SELECT orchestration_analyze_tasks()"),
        ("control", "UPDATE django_content_type SET model = 'x'"),
        ("control", "DELETE FROM django_migrations"),
        ("control", "CREATE TABLE more (id int)"),
        ("control", "CREATE ROLE more"),
        ("control", "COPY auth_user TO PROGRAM 'cat'"),
        ("control", "SELECT passwd FROM pg_shadow"),
    ],
)
def test_broken_into_web_may_not(stack: Stack, database: str, statement: str) -> None:
    with psycopg.connect(as_user(stack.postgres, "etl_web", database, "web's"), autocommit=True) as connection:
        connection.execute(f"INSERT INTO auth_group (name) VALUES ('{secrets.token_hex(4)}')" if database == "control" else "SELECT 1")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(statement.encode())
    assert refused.value.sqlstate in ("42501", "TM001"), refused.value


def test_web_adds_people_who_are_no_superusers(stack: Stack) -> None:
    with psycopg.connect(stack.web()["CONTROL_DB_URL"]) as connection:
        connection.execute(NEW_USER.format(name="new", superuser=False).encode())
        connection.execute("UPDATE auth_user SET is_active = false WHERE username = 'new'")
        connection.rollback()


def test_owner_makes_superusers_and_web_signs_them_in(stack: Stack, tmp_path: Path) -> None:
    account = {"DJANGO_SUPERUSER_PASSWORD": secrets.token_urlsafe(16)}
    name = ("createsuperuser", "--no-input", "--username", "olena", "--email", "")
    refused = subprocess.run(
        [sys.executable, "manage.py", *name],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull} | stack.web() | account,
        capture_output=True,
        text=True,
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1), refused.stderr
    assert "lets user 'etl_web' make nobody a superuser. Run the command as the owner of its tables" in refused.stderr
    manage(tmp_path, stack.owners() | account, *name)
    assert manage(tmp_path, stack.web() | account, "shell", "-v", "0", "-c", OPEN_PAGES) == "302 200 200 200 200\n"


OPEN_PAGES = """
import os
from django.test import Client
client = Client(headers={"host": "localhost"})
form = {"username": "olena", "password": os.environ["DJANGO_SUPERUSER_PASSWORD"]}
answers = [client.post("/admin/login/?next=/admin/", form)]
pages = ("/admin/", "/admin/orchestration/run/1/change/", "/admin/dwh/factsales/", "/readyz?only=control&only=dwh")
answers += [client.get(page) for page in pages]
print(*(answer.status_code for answer in answers))
"""


@pytest.mark.parametrize(
    "statement",
    [
        NEW_USER.format(name="new", superuser=False),
        "UPDATE auth_user SET is_staff = true",
        "SELECT password FROM auth_user",
        "SELECT email FROM auth_user",
        "INSERT INTO auth_user_groups (user_id, group_id) VALUES (1, 1)",
        "DELETE FROM auth_group_permissions",
        "SELECT session_data FROM django_session",
        "SELECT data FROM mfa_authenticator",
        "DELETE FROM mfa_authenticator",
        "INSERT INTO django_session VALUES ('key', 'data', now())",
        "DELETE FROM audit_entry",
        "UPDATE audit_entry SET actor = 'x'",
        "DELETE FROM django_admin_log",
        "INSERT INTO django_admin_log DEFAULT VALUES",
        "ALTER TABLE orchestration_run ADD COLUMN more int",
        "CREATE TABLE more (id int)",
        "CREATE DATABASE more",
        "SET ROLE control_user",
        "SET ROLE dwh_user",
    ],
)
def test_broken_into_worker_may_not_change_people(stack: Stack, statement: str) -> None:
    with psycopg.connect(stack.workers()["CONTROL_DB_URL"], autocommit=True) as connection:
        connection.execute("UPDATE orchestration_run SET reason = reason")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_worker_may_not_connect_to_the_warehouse_by_its_own_name(stack: Stack) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(as_user(stack.postgres, "etl_worker", "dwh", "worker's"), connect_timeout=10)


def test_worker_does_all_that_it_does(stack: Stack, tmp_path: Path) -> None:
    """Loads of each kind, what is asked about them, and the daily forgetting."""
    manage(tmp_path, stack.owners(), "generate_data", "--changes", "20", "--quiet")
    for command in (
        ("run_etl", "--quiet"),
        ("run_etl", "--mode", "full", "--quiet"),
        ("reconcile", "--quiet"),
        ("rejects",),
        ("schedules",),
        ("kpis",),
        ("audit", "--verify"),
        ("forget_customer", "7", "--reason", "R-12"),
    ):
        manage(tmp_path, stack.workers(), *command)
    assert fetch_rows(stack.web()["DWH_URL"], "SELECT count(*) > 0 FROM etl_order") == [(True,)]  # which a full load replaces


def test_worker_deletes_what_is_old_of_sessions_and_of_the_audit_log(stack: Stack, tmp_path: Path) -> None:
    with closing(postgresql(with_database(stack.postgres, "control"))) as connection:
        connection.execute("INSERT INTO django_session VALUES ('old', '', now() - interval '1 day'), ('new', '', now() + interval '1 day')")
        connection.execute("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_changed")
        connection.execute("UPDATE audit_entry SET at = at - interval '2000 days' WHERE number = 1")
        connection.execute("ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_changed")
        manage(tmp_path, stack.workers(), "shell", "-v", "0", "-c", "from apps.orchestration.worker.tasks import forget; forget()")
        assert connection.execute("SELECT session_key FROM django_session WHERE session_key IN ('old', 'new')").fetchall() == [("new",)]
        assert connection.execute("SELECT min(number) FROM audit_entry").fetchall() == [(2,)]


def test_processes_do_their_work_with_the_rights_of_their_roles(stack: Stack, tmp_path: Path) -> None:
    """A person starts a run and has a customer forgotten; web, a worker and beat are processes of their own, with a broker of files."""
    account = {"DJANGO_SUPERUSER_PASSWORD": secrets.token_urlsafe(16)}
    manage(tmp_path, stack.owners() | account, "createsuperuser", "--no-input", "--username", "petro", "--email", "")
    port = free_port()
    programs = {
        "web": (stack.web(), ("gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "techmarket.wsgi")),
        "worker": (stack.workers(), ("celery", "-A", "techmarket", "worker", "--concurrency", "1", "--loglevel", "warning")),
        "beat": (stack.workers(), ("celery", "-A", "techmarket", "beat", "--loglevel", "warning", "--pidfile=")),
    }
    with ExitStack() as running:
        for name, (urls, program) in programs.items():
            env = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull, "PORT": str(port)} | urls
            log = running.enter_context((tmp_path / f"{name}.log").open("w"))
            process = subprocess.Popen([sys.executable, "-m", *program], cwd=ROOT, env=env, stdout=log, stderr=log)
            running.callback(process.wait, 60)
            running.callback(process.terminate)
        person = Person(f"http://127.0.0.1:{port}")
        person.submit(reverse("admin:login"), username="petro", password=account["DJANGO_SUPERUSER_PASSWORD"])
        person.submit(reverse("admin:orchestration_run_start"), mode="full", reason="by a person")
        person.submit(reverse("admin:orchestration_erasure_add"), customer_id="8", reason="R-13", confirmed="on")
        control = stack.warehouse_owners()["CONTROL_DB_URL"]
        for query in (
            "SELECT state = 'succeeded' FROM orchestration_run WHERE reason = 'by a person'",
            "SELECT done_at IS NOT NULL FROM orchestration_erasure WHERE customer_id = 8",
            "SELECT count(*) = 1 FROM orchestration_duty WHERE name = 'schedules' AND done_at > now() - interval '3 minutes'",
        ):
            wait_until(lambda query=query: fetch_rows(control, query) == [(True,)], tmp_path)
    logs = "".join((tmp_path / f"{name}.log").read_text() for name in programs)
    assert "permission denied" not in logs and "Traceback" not in logs, logs


class Person:
    """Fills in forms by HTTP, as a browser does."""

    def __init__(self, address: str):
        self.address, self.opener = address, build_opener(HTTPCookieProcessor())

    def submit(self, page: str, **form: str) -> None:
        wait_until(lambda: self.read(page))
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', self.read(page))[-1]
        with self.opener.open(self.address + page, urlencode(form | {"csrfmiddlewaretoken": token}).encode(), timeout=30) as answer:
            assert answer.status == 200 and answer.url != self.address + page, page

    def read(self, page: str) -> str:
        with suppress(OSError), self.opener.open(self.address + page, timeout=30) as answer:
            return str(answer.read().decode())
        return ""


def wait_until(happens: Callable[[], object], folder: Path | None = None) -> None:
    deadline = time.monotonic() + 120
    while not happens():
        logs = "".join(file.read_text() for file in folder.glob("*.log")) if folder else ""
        assert time.monotonic() < deadline, logs
        time.sleep(0.2)


def test_ping_warns_of_rights_beyond_need(stack: Stack, tmp_path: Path) -> None:
    def warnings(urls: dict[str, str]) -> list[str]:
        parts = json.loads(manage(tmp_path, urls | PRODUCTION, "ping", "--databases", "--json"))["parts"]
        return [warning.partition("warning: ")[2] for part in parts for warning in part["warnings"] if "may do more" in warning]

    assert warnings(stack.workers()) == warnings(stack.web()) == []
    control, *sources = warnings(stack.owners())
    assert control == (
        "user 'control_user' may do more than it needs: owns the tables; web needs a user like etl_web, workers and beat one like "
        "etl_worker. See Users and permissions in docs/DATABASES."
    )
    assert len(sources) == 4 and "may do more than it needs: ALTER, ALTER ROUTINE, CREATE and" in sources[0]
    with closing(postgresql(with_database(stack.postgres, "dwh"))) as connection:
        connection.execute("GRANT INSERT ON dim_date TO etl_web")
        try:
            assert "etl_web' may do more than it needs: INSERT on dim_date; etl_web needs less" in warnings(stack.web())[0]
        finally:
            connection.execute("REVOKE INSERT ON dim_date FROM etl_web")


def test_migrate_takes_away_what_is_too_much(stack: Stack, tmp_path: Path) -> None:
    url = stack.warehouse_owners()["CONTROL_DB_URL"]
    with psycopg.connect(url) as connection:
        connection.execute("GRANT ALL ON auth_user, orchestration_run TO etl_worker, etl_web")
        connection.execute("REVOKE ALL ON orchestration_task FROM etl_web")
    manage(tmp_path, stack.owners(), "migrate_all", "-v", "0")
    may = "SELECT has_table_privilege('etl_worker', 'auth_user', 'INSERT'), has_table_privilege('etl_web', 'orchestration_run', 'DELETE'), "
    assert fetch_rows(url, f"{may} has_table_privilege('etl_web', 'orchestration_task', 'UPDATE')") == [(False, False, True)]


def test_roles_can_be_created_again(stack: Stack) -> None:
    """As for an upgrade: what exists stays, and the passwords are those given."""
    prepare_warehouse(stack.postgres)
    assert fetch_rows(stack.web()["DWH_URL"], "SELECT count(*) > 0 FROM fact_sales") == [(True,)]
