"""Backups on servers that refuse, die or were left untidy: what the user reads, and what remains."""

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from apps.backups.clients import Client, make_error, read_cause
from techmarket.errors import ConnectionLost, Terminal
from tests.backups.conftest import list_databases, make_backup
from tests.failures.conftest import Shop, administer, assert_one_line, needs_files, needs_root, needs_servers
from tests.failures.test_databases import small_disk
from tests.servers import Server, mysql, start_mysql

STATEMENT = "--------------\nINSERT INTO `t` VALUES ('an error: of nobody'),\n" + "('row'),\n" * 9_000 + "--------------\n\n"


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (
            f"{STATEMENT}ERROR 3105 (HY000) at line 12: The value specified for generated column 'g' in table 't' is not allowed.\n",
            "ERROR 3105 (",
        ),
        ("mysqldump: Got error: 28: no space\n", "mysqldump: Got error: 28: no space"),
        (
            "[Warning] x\nmariadb-dump: Couldn't execute 'SHOW FIELDS FROM `v`': View 'v' references (1356)\n",
            "mariadb-dump: Couldn't execute",
        ),
        (
            "pg_restore: while PROCESSING TOC:\npg_restore: error: could not execute query: ERROR:  no\nCommand was: x",
            "pg_restore: error: could",
        ),
        (
            "pg_dump: warning: there are error cycles\npg_dump: error: query failed: ERROR:  denied\npg_dump: detail: x",
            "pg_dump: error: query",
        ),
        ("something else\n", "something else"),
        ("--------------\n", ""),
        ("", ""),
    ],
)
def test_cause_is_the_line_of_the_error(output: str, cause: str) -> None:
    """MySQL's client prints the statement first, up to a megabyte of rows."""
    assert read_cause(io.BytesIO(output.encode())).startswith(cause)
    assert "an error: of nobody" not in read_cause(io.BytesIO(output.encode()))


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("ERROR 2013 (HY000) at line 9: Lost connection to server during query", ConnectionLost),
        ("ERROR 2006 (HY000) at line 9: Server has gone away", ConnectionLost),
        ("mysqldump: Error 2013: Lost connection to server during query when dumping table `t` at row: 5", ConnectionLost),
        ("pg_restore: error: error returned by PQputCopyData: server closed the connection unexpectedly", ConnectionLost),
        ("pg_dump: error: query failed: FATAL:  terminating connection due to administrator command", ConnectionLost),
        ("ERROR 1062 (23000) at line 2013: Duplicate entry 'connection' for key 'x'", Terminal),
    ],
)
def test_lost_connection_is_recognized(cause: str, kind: type[Exception]) -> None:
    error = make_error("orders_db (db:3306)", Client("/usr/bin/mysql", ""), 1, cause)
    assert type(error) is kind
    assert ("ran out of memory" in str(error)) == (kind is ConnectionLost) and "Start it" not in str(error)


# --- A server of the test's own ---


@contextmanager
def own_server() -> Iterator[tuple[Server, str]]:
    """A MariaDB server with a binary log, and its address. It takes no dump of MySQL 9, whose collations it lacks."""
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection:
        if "MariaDB" not in connection.get_server_info():
            pytest.skip("restores into a MariaDB, which takes MariaDB's dumps alone")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # it may run as another user
        yield from start_with_log(Path(folder) / "mysql")


def start_with_log(folder: Path) -> Iterator[tuple[Server, str]]:
    server = Server(folder)
    try:
        url = start_mysql(server)
        assert server.process
        command = [str(part) for part in server.process.args]  # type: ignore[union-attr]
        server.stop()
        server.start(*command, "--log-bin=bin", "--server-id=1", answers=lambda: mysql(url).close())
        yield server, url
    finally:
        server.stop()


def create_owner(url: str) -> str:
    """Create an empty orders_db with an owner, as deploy/mysql does; return the owner's address."""
    with closing(mysql(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE DATABASE IF NOT EXISTS orders_db CHARACTER SET utf8mb4")
        cursor.execute("CREATE USER owner@'%' IDENTIFIED BY 'topsecret1'")
        for name in (r"orders\_db", r"orders\_db\_verify\_%"):
            cursor.execute(f"GRANT ALL ON `{name}`.* TO owner@'%'")
    return f"mysql://owner:topsecret1@127.0.0.1:{urlsplit(url).port}/orders_db"


def query(url: str, *statements: str) -> Any:
    with closing(mysql(url)) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@needs_servers
def test_servers_refusals_are_named_before_a_restore(shop: Shop) -> None:
    """With a binary log only an administrator creates triggers (1419); a read-only server takes nothing at all (1290)."""
    shop.sql("orders_db", "CREATE TRIGGER log_change BEFORE UPDATE ON orders FOR EACH ROW SET @seen = 1")
    folder = make_backup(shop, "--verify")
    with own_server() as (_, url):
        env = {"ORDERS_DB_URL": create_owner(url)}
        restore = ("restore", folder.name, "--only", "orders_db")
        refusal = (
            "trigger log_change cannot be created (the server writes a binary log and lets only its administrator create triggers). "
            "Let its administrator run SET GLOBAL log_bin_trust_function_creators = 1."
        )
        assert_one_line(shop.run(*restore, "--dry-run", env=env), 4, "orders_db (127.0.0.1:", refusal)
        assert_one_line(shop.run("backup", "--verify", folder.name, env=env), 4, refusal, "its tables were restored and are equal.")
        assert query(url, "SHOW TABLES FROM orders_db") == []
        assert_one_line(shop.run(*restore, env=env), 4, refusal, "All tables of", "are restored")
        assert query(url, "SELECT COUNT(*) FROM orders_db.orders") == list(shop.sql("orders_db", "SELECT COUNT(*) FROM orders"))
        query(url, "SET GLOBAL log_bin_trust_function_creators = 1", "DROP DATABASE orders_db", "CREATE DATABASE orders_db")
        assert shop.run(*restore, "--dry-run", env=env).returncode == 0
        assert shop.run(*restore, env=env).stderr == ""
        assert [row[0] for row in query(url, "SHOW TRIGGERS FROM orders_db")] == ["log_change"]
        query(url, "SET GLOBAL read_only = 1")
        message = "is read-only: nothing can be restored there. Name a server that takes writes in ORDERS_DB_URL, then run"
        assert_one_line(shop.run("backup", "--verify", folder.name, env=env), 4, "orders_db (127.0.0.1:", message)
        assert shop.run("backup", env=env).returncode == 0
        assert [row[0] for row in query(url, "SHOW DATABASES LIKE 'orders%'")] == ["orders_db"]


@needs_servers
@pytest.mark.parametrize("is_verify", [False, True])
def test_killed_server_is_named(shop: Shop, tmp_path: Path, is_verify: bool) -> None:
    """Its client's last words count, not that it does not answer afterwards."""
    folder, programs = make_backup(shop), tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "sh", "head", "cat", "sleep", "mysqldump", "mariadb-dump"):
        if path := shutil.which(name):
            (programs / name).symlink_to(path)
    with own_server() as (server, url):
        env = {"ORDERS_DB_URL": create_owner(url), "PATH": str(programs)}
        assert server.process
        for name in ("mariadb", "mysql"):
            kill = f"sleep 3; kill -9 {server.process.pid}; sleep 1"
            real = shutil.which(name)
            die = f'(head -c 20000; {kill}; cat) | {real} "$@"; exit'
            (programs / name).write_text(f'#!/bin/sh\ncase "$*" in *orders_db*) {die};; esac\nexec {real} "$@"\n')
            (programs / name).chmod(0o755)
        command = ("backup", "--verify", folder.name) if is_verify else ("restore", folder.name, "--only", "orders_db")
        result = shop.run(*command, env=env)
        assert_one_line(result, 1, "orders_db (127.0.0.1:", "closed the connection to", "it was stopped, killed or ran out of memory.")
        assert "Start it" not in result.stderr


# --- What killed verifications have left ---


@needs_servers
def test_left_databases_are_dropped_and_those_in_use_stay(shop: Shop) -> None:
    folder, others = make_backup(shop), list_databases(shop)
    left = {alias: f"{shop.name(alias)[: (64 if alias == 'orders_db' else 63) - 16]}_verify_0123abcd" for alias in ("orders_db", "dwh")}
    used = {alias: name.replace("0123", "9999") for alias, name in left.items()}
    for name in (*left.values(), *used.values()):
        administer("dwh" if "dwh" in name else "orders_db", f"CREATE DATABASE {name}")
    with closing(shop.connect("orders_db")) as source, closing(shop.connect("dwh")) as warehouse:
        source.cursor().execute("SELECT GET_LOCK(%s, 0)", [used["orders_db"]])
        warehouse.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [used["dwh"]])
        assert shop.run("backup", "--verify", folder.name).returncode == 0
        assert list_databases(shop) == others | set(used.values())
    assert shop.run("backup", "--verify", folder.name).returncode == 0
    assert list_databases(shop) == others


@needs_files
def test_left_folders_are_removed(shop: Shop) -> None:
    (shop.folder / ".verify-left").mkdir()
    (shop.folder / ".verify-left" / "throwaway.sqlite3").write_bytes(b"")
    assert shop.run("backup", "--verify").returncode == 0
    assert not list(shop.folder.glob(".verify-*"))


@needs_servers
def test_read_only_warehouse_is_named(shop: Shop) -> None:
    folder = make_backup(shop)
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET default_transaction_read_only = on")
    message = "is read-only: nothing can be restored there. Name a server that takes writes in DWH_URL, then run"
    assert_one_line(shop.run("backup", "--verify", folder.name), 4, "dwh (127.0.0.1:", message)
    assert shop.run("backup").returncode == 0


@needs_files
@needs_root
def test_read_only_folder_is_named(shop: Shop, tmp_path: Path) -> None:
    """The throwaway file is made beside the database."""
    folder = make_backup(shop)
    with small_disk(tmp_path / "disk", 24) as disk:
        shutil.copy(shop.folder / "dwh.sqlite3", disk)
        env = {"DWH_URL": f"sqlite:///{disk}/dwh.sqlite3"}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        message = "is read-only: nothing can be restored there. Name a server that takes writes in DWH_URL, then run"
        result = shop.run("backup", "--verify", folder.name, env=env)
        assert_one_line(result, 4, f"dwh ({disk}/dwh.sqlite3) (Read-only file system) {message}")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert shop.run("backup", "--verify", folder.name, env=env).stderr == ""
