"""The exported SQL and DBML, taken by servers, give what the migrations give there."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from apps.schema.tables import Database, described
from apps.warehouse.partition import WHOLE_RANGE
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.skipif(
        settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="needs servers: `make test` runs it a second time, with them"
    ),
    pytest.mark.django_db(transaction=True, databases="__all__"),
]
DBML_CLI = "@dbml/cli@6.6.0"
Ask = Callable[[str], list[tuple[Any, ...]]]

# What a server says of the tables of one database; a migration may have made the columns in another order.
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


def seen(ask: Ask, database: Database, *kinds: str) -> dict[str, list[tuple[Any, ...]]]:
    """By kind of thing, what there is of the database's tables."""
    questions = POSTGRES if database.is_warehouse else MYSQL
    names = {table.name for table in database.tables}
    return {kind: sorted((row for row in ask(questions[kind]) if row[0] in names), key=repr) for kind in kinds or questions}


def migrated(database: Database) -> Ask:
    def ask(query: str) -> list[tuple[Any, ...]]:
        with connections[database.alias].cursor() as cursor:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    return ask


@contextmanager
def filled(database: Database, sql: str) -> Iterator[Ask]:
    """An empty database on the same server, into which `sql` has been fed."""
    name, quote = "exported", database.quoted("exported")
    connection = connections[database.alias]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quote}")
        cursor.execute(f"CREATE DATABASE {quote}")
    try:
        with closing(connected(connection, name)) as other:
            take(other, sql)
            yield lambda query: rows(other, query)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {quote}")


def connected(connection: Any, name: str) -> Any:
    parameters = connection.get_connection_params()
    if connection.vendor == "mysql":
        return connection.get_new_connection(parameters | {"database": name})
    keep = ("host", "port", "user", "password")
    return psycopg.connect(dbname=name, autocommit=True, **{key: parameters[key] for key in keep})


def take(connection: Any, sql: str) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        while cursor.nextset():
            pass


def rows(connection: Any, query: str) -> list[tuple[Any, ...]]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        return [tuple(row) for row in cursor.fetchall()]


each = pytest.mark.parametrize("database", described(), ids=lambda database: database.alias)


@each
def test_sql_gives_what_the_migrations_give(database: Database) -> None:
    """Columns with their defaults, indexes, constraints and their names: all that the server tells."""
    with filled(database, (ROOT / "deploy" / database.sql).read_text()) as ask:
        made, wanted = seen(ask, database), seen(migrated(database), database)
        assert made == wanted
        assert len(made["columns"]) == sum(len(table.columns) for table in database.tables)
        if database.is_warehouse:
            bound = ask("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind = 'r'")
            assert bound == [(WHOLE_RANGE,)]


@pytest.fixture(scope="module")
def dbml2sql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program of @dbml/cli, from npm: 13 seconds and 240 MB in a folder that goes again."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("needs npm, of Node.js, for @dbml/cli")
    folder = tmp_path_factory.mktemp("dbml")
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error")
    result = subprocess.run([npm, "install", "--prefix", str(folder), *options, DBML_CLI], capture_output=True, text=True, timeout=300)
    if result.returncode:
        pytest.skip(f"npm does not give {DBML_CLI}: {result.stderr.strip()[-200:]}")
    assert json.loads((folder / "node_modules" / "@dbml" / "cli" / "package.json").read_text())["version"] == DBML_CLI.rpartition("@")[2]
    yield folder / "node_modules" / ".bin" / "dbml2sql"
    shutil.rmtree(folder)


def test_dbml_is_read_and_its_sql_gives_the_columns_of_the_migrations(dbml2sql: Path, tmp_path: Path) -> None:
    for database in described():
        source = ROOT / "docs" / "db" / f"{database.name}.dbml"
        kind = "--postgres" if database.is_warehouse else "--mysql"
        result = subprocess.run([dbml2sql, kind, str(source)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        with filled(database, result.stdout) as ask:
            assert seen(ask, database, "columns") == seen(migrated(database), database, "columns"), database.alias
            assert related(ask, database) == related(migrated(database), database)


def related(ask: Ask, database: Database) -> list[tuple[Any, ...]]:
    """Foreign keys without their names, which DBML does not know."""
    if database.is_warehouse:
        found = [row for row in seen(ask, database, "constraints")["constraints"] if row[2].startswith("FOREIGN KEY")]
        return sorted((row[0], row[2].partition(" DEFERRABLE")[0]) for row in found)
    found = seen(ask, database, "foreign keys")["foreign keys"]
    return sorted((row[0], *row[2:]) for row in found if row[3])
