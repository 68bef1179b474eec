"""The rights of etl_reader and bi_reader, on servers set up by the scripts of deploy/ as containers run them."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import MySQLdb
import psycopg
import pytest
from django.conf import settings

from apps.bi.questions import questions
from tests.bi.metabase import render_query
from tests.conftest import ROOT
from tests.servers import Server, mysql, postgresql, start_mysql, start_postgres, with_database

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


@dataclass
class Stack:
    """The URLs of both servers, and those of each user by variable."""

    mysql: str
    postgres: str

    def owners(self) -> dict[str, str]:
        sources = {settings.VARIABLES[name]: as_user(self.mysql, name.replace("_db", "_user"), name, "own") for name in SOURCES}
        return sources | self.warehouse_owners()

    def readers(self) -> dict[str, str]:
        return {
            settings.VARIABLES[name]: as_user(self.mysql, "etl_reader", name, READER_PASSWORD) for name in SOURCES
        } | self.warehouse_owners()

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
    """Two servers with the demo shop, loaded by etl_reader as in a container."""
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
            (("run_etl", "--mode", "full", "--quiet"), stack.readers()),
        ):
            manage(var, urls, *command)
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
            "GRANT CONNECT ON DATABASE dwh TO bi_reader",
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
    manage(tmp_path, stack.readers(), "run_etl", "--mode", "full", "--quiet")


def test_reader_may_not_back_up(stack: Stack, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull} | stack.readers()
    result = subprocess.run([sys.executable, "manage.py", "backup"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 4
    assert result.stderr.endswith(
        "user 'etl_reader' may not lock tables, which a backup does briefly. Run GRANT LOCK TABLES ON `auth_db`.* TO 'etl_reader'@'%'.\n"
    )
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".lock"]


def test_ping_reports_rights(stack: Stack, tmp_path: Path) -> None:
    def rights(urls: dict[str, str]) -> list[str]:
        return [part["rights"] for part in json.loads(manage(tmp_path, urls, "ping", "--databases", "--json"))["parts"]]

    assert rights(stack.readers()) == ["write"] * 2 + ["read only"] * 4
    assert rights(stack.owners()) == ["write"] * 6
