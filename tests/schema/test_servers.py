"""The exported SQL and DBML, run on servers, create the same tables as the migrations."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from apps.schema.tables import Database, describe_databases
from apps.warehouse.partition import WHOLE_RANGE
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.skipif(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="needs servers: `make test` runs it on them"),
    pytest.mark.django_db(transaction=True, databases="__all__"),
]
DBML_CORE = "@dbml/core@6.6.0"
EXPORT = """
const { exporter } = require("@dbml/core"), { readFileSync } = require("fs");
const files = Object.entries(JSON.parse(process.argv[1]));
const sql = files.map(([alias, [file, format]]) => [alias, exporter.export(readFileSync(file, "utf8"), format)]);
console.log(JSON.stringify(Object.fromEntries(sql)));
"""
Query = Callable[[str], list[tuple[Any, ...]]]

# Catalog queries for the tables of one database. The order of columns is left out: a migration may have added them in another order.
MYSQL = {
    "columns": "SELECT table_name, column_name, column_type, is_nullable FROM information_schema.columns WHERE table_schema = DATABASE()",
    "rest of columns": "SELECT table_name, column_name, column_default, extra FROM information_schema.columns "
    "WHERE table_schema = DATABASE()",
    "indexes": "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics "
    "WHERE table_schema = DATABASE()",
    "foreign keys": "SELECT table_name, constraint_name, column_name, referenced_table_name, referenced_column_name "
    "FROM information_schema.key_column_usage WHERE table_schema = DATABASE()",
}
POSTGRES = {
    "columns": "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
    "JOIN pg_class c ON c.oid = attrelid "
    "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped",
    "rest of columns": "SELECT table_name, column_name, column_default, is_identity FROM information_schema.columns "
    "WHERE table_schema = 'public'",
    "indexes": "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace",
    "partitions": "SELECT inhparent::regclass::text, pg_get_partkeydef(inhparent) FROM pg_inherits "
    "JOIN pg_class p ON p.oid = inhparent AND p.relkind = 'p'",
}


def read_catalog(query: Query, database: Database, *kinds: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return the catalog's rows about the database's tables, by kind of object."""
    queries = POSTGRES if database.is_warehouse else MYSQL
    names = {table.name for table in database.tables}
    return {kind: sorted((row for row in query(queries[kind]) if row[0] in names), key=repr) for kind in kinds or queries}


def query_migrated(database: Database) -> Query:
    """Return a function that queries the database that the migrations have created."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        with connections[database.alias].cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    return query


@contextmanager
def create_database(database: Database, sql: str) -> Iterator[Query]:
    """Create a database on the same server, run `sql` in it and drop it at the end."""
    name = "exported" + os.environ.get("PYTEST_XDIST_WORKER", "")  # a parallel worker has one of its own
    quoted = database.quote_name(name)
    connection = connections[database.alias]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted}")
        cursor.execute(f"CREATE DATABASE {quoted}")
    try:
        with closing(connect(connection, name)) as other:
            execute_script(other, sql)
            yield lambda query: fetch_rows(other, query)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {quoted}")


def connect(connection: Any, name: str) -> Any:
    parameters = connection.get_connection_params()
    if connection.vendor == "mysql":
        return connection.get_new_connection(parameters | {"database": name})
    keep = ("host", "port", "user", "password")
    return psycopg.connect(dbname=name, autocommit=True, **{key: parameters[key] for key in keep})


def execute_script(connection: Any, sql: str) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        while cursor.nextset():
            pass


def fetch_rows(connection: Any, query: str) -> list[tuple[Any, ...]]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        return [tuple(row) for row in cursor.fetchall()]


for_each_database = pytest.mark.parametrize("database", describe_databases(), ids=lambda database: database.alias)


@for_each_database
def test_sql_creates_the_same_tables_as_the_migrations(database: Database) -> None:
    """Compares columns with their defaults, indexes, and constraints with their names."""
    with create_database(database, (ROOT / "deploy" / database.sql_path).read_text()) as query:
        created = read_catalog(query, database)
        assert created == read_catalog(query_migrated(database), database)
        assert len(created["columns"]) == sum(len(table.columns) for table in database.tables)
        if database.is_warehouse:
            bound = query("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind = 'r'")
            assert bound == [(WHOLE_RANGE,)]


@pytest.fixture(scope="module")
def exported_sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SQL made from each committed DBML file by @dbml/core, which @dbml/cli calls too: 2 s to install from npm instead of 38."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("needs npm, of Node.js, for @dbml/core")
    folder = tmp_path_factory.mktemp("dbml")
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error")
    result = subprocess.run([npm, "install", "--prefix", folder, *options, DBML_CORE], capture_output=True, text=True, timeout=300)
    if result.returncode:
        pytest.skip(f"npm cannot install {DBML_CORE}: {result.stderr.strip()[-200:]}")
    assert json.loads((folder / "node_modules" / "@dbml" / "core" / "package.json").read_text())["version"] == DBML_CORE.rpartition("@")[2]
    files = {
        database.alias: [str(ROOT / "docs" / "db" / f"{database.file_name}.dbml"), "postgres" if database.is_warehouse else "mysql"]
        for database in describe_databases()
    }
    result = subprocess.run(["node", "-e", EXPORT, json.dumps(files)], cwd=folder, capture_output=True, text=True, timeout=60)
    shutil.rmtree(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    exported: dict[str, str] = json.loads(result.stdout)
    return exported


@for_each_database
def test_dbml_creates_the_same_columns_as_the_migrations(database: Database, exported_sql: dict[str, str]) -> None:
    with create_database(database, exported_sql[database.alias]) as query:
        migrated = query_migrated(database)
        assert read_catalog(query, database, "columns") == read_catalog(migrated, database, "columns")
        assert read_foreign_keys(query, database) == read_foreign_keys(migrated, database)


def read_foreign_keys(query: Query, database: Database) -> list[tuple[Any, ...]]:
    """Return foreign keys without their names, which DBML does not have."""
    if database.is_warehouse:
        found = [row for row in read_catalog(query, database, "constraints")["constraints"] if row[2].startswith("FOREIGN KEY")]
        return sorted((row[0], row[2].partition(" DEFERRABLE")[0]) for row in found)
    found = read_catalog(query, database, "foreign keys")["foreign keys"]
    return sorted((row[0], *row[2:]) for row in found if row[3])
