"""A database that is unreachable, damaged or wrong: exit code 4, its name and the next step; the ledger records the cause."""

import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from django.conf import settings

from techmarket.environment import Environment
from tests.conftest import ROOT
from tests.failures.conftest import Shop, assert_one_line, needs_files, needs_root, needs_servers

CLOSED = {
    alias: f"{'mysql' if alias in settings.SOURCES else 'postgres'}://user:topsecret@127.0.0.1:1/nowhere" for alias in settings.VARIABLES
}


def assert_run_fails(shop: Shop, code: int, *parts: str, env: dict[str, str] | None = None, cause_kind: str = "configuration") -> None:
    """Assert that the run fails with one line on stderr, which is also the cause in the ledger, and leaves the warehouse as it was."""
    before, runs = shop.warehouse(), len(shop.runs())
    result = shop.run("run_etl", env=env)
    assert_one_line(result, code, *parts)
    assert result.stdout == ""
    [run] = shop.runs()[runs:]
    assert (run["state"], run["cause_kind"], run["cause"]) == ("failed", cause_kind, result.stderr.strip())
    assert shop.warehouse() == before


def assert_run_succeeds(shop: Shop, *arguments: str) -> None:
    before = shop.warehouse()
    result = shop.run("run_etl", *arguments)
    assert result.returncode == 0, result.stderr
    assert shop.runs()[-1]["state"] == "succeeded" and shop.warehouse() != before


# --- Unreachable ---


@pytest.mark.parametrize("aliases", [["orders_db", "payments_db"], ["dwh"]])
def test_unreachable_database(shop: Shop, aliases: list[str]) -> None:
    env = {settings.VARIABLES[alias]: CLOSED[alias].replace("nowhere", alias) for alias in aliases}
    assert_run_fails(shop, 4, " (127.0.0.1:1) does not answer. Start it, or correct ", env=env)
    assert_run_succeeds(shop, "--resume", "2")


def test_unreachable_control_database(shop: Shop) -> None:
    before = shop.warehouse()
    result = shop.run("run_etl", env={"CONTROL_DB_URL": CLOSED["default"]})
    assert_one_line(result, 4, "control database (127.0.0.1:1) does not answer. Start it, or correct CONTROL_DB_URL.")
    assert shop.warehouse() == before


@pytest.mark.parametrize(("variable", "scheme"), [("ORDERS_DB_URL", "mysql"), ("DWH_URL", "postgres")])
def test_unknown_host(shop: Shop, variable: str, scheme: str) -> None:
    env = {variable: f"{scheme}://user:topsecret@nohost.invalid/shop"}
    assert_run_fails(shop, 4, "(nohost.invalid:default port): the host's name is unknown", f"Start it, or correct {variable}.", env=env)


@needs_files
@needs_root
@pytest.mark.parametrize(("variable", "scheme"), [("ORDERS_DB_URL", "mysql"), ("DWH_URL", "postgres")])
def test_unresponsive_name_server(shop: Shop, tmp_path: Path, variable: str, scheme: str) -> None:
    """Run in a separate mount namespace, where /etc/resolv.conf names an address that never answers."""
    address = f"127.0.77.{random.randint(1, 254)}"  # parallel tests use other addresses
    (tmp_path / "resolv.conf").write_text(f"nameserver {address}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        try:
            silent.bind((address, 53))
        except OSError:
            pytest.skip("port 53 is not available here")
        mount = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf"
        if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode != 0:
            pytest.skip("this system does not allow mount namespaces")
        command = [sys.executable, str(ROOT / "manage.py"), "run_etl"]
        result = subprocess.run(
            ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command],
            env={"PATH": os.environ["PATH"]} | shop.env | {variable: f"{scheme}://user:topsecret@db.example.com/shop"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert silent.recv(1)  # the name server received a query
    assert_one_line(result, 4, "(db.example.com:default port): the host's name is unknown", f"Start it, or correct {variable}.")


@contextmanager
def listening(answers: bool) -> Iterator[int]:
    """Yield a port that accepts connections and, with `answers`, closes them at once; otherwise it stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                accepted.append(connection)
                if answers:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


@pytest.mark.parametrize(
    ("variable", "scheme", "answers"),
    [("CATALOG_DB_URL", "mysql", False), ("CATALOG_DB_URL", "mysql", True), ("DWH_URL", "postgres", False)],
)
def test_port_without_a_database(shop: Shop, variable: str, scheme: str, answers: bool) -> None:
    """The command gives up after connect_timeout: 10 seconds by default (see test_usage), 2 here."""
    with listening(answers) as port:
        env = {variable: f"{scheme}://user:topsecret@127.0.0.1:{port}/shop?connect_timeout=2"}
        assert Environment(env).database(variable, Path("/nowhere"), scheme)["OPTIONS"] == {"connect_timeout": 2}
        assert_run_fails(shop, 4, f"(127.0.0.1:{port}) does not answer", env=env)


@pytest.mark.parametrize(("variable", "scheme"), [("ORDERS_DB_URL", "mysql"), ("DWH_URL", "postgres")])
def test_unknown_url_option(shop: Shop, variable: str, scheme: str) -> None:
    env = {variable: f"{scheme}://user:topsecret@127.0.0.1:1/shop?colour=blue"}
    result = shop.run("run_etl", env=env)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (4, "", 1), result.stderr
    assert result.stderr.startswith(f"{variable}: the option colour is refused: ") and "topsecret" not in result.stderr


# --- Wrong schema ---


@pytest.mark.parametrize(
    ("alias", "change", "missing", "parts"),
    [
        ("auth_db", "TABLE user_roles RENAME TO gone", "user_roles", "Restore it in the source database, or correct AUTH_DB_URL."),
        ("dwh", "TABLE dim_region RENAME TO gone", "dim_region", "Restore it there, or restore a backup into an empty database."),
        ("dwh", "TABLE fact_sales RENAME COLUMN net_amount TO gone", "net_amount", "Restore it there, or restore a backup"),
        ("catalog_db", "TABLE products RENAME COLUMN cost TO gone", "cost", "Restore it in the source database."),
    ],
)
def test_missing_table_or_column(shop: Shop, alias: str, change: str, missing: str, parts: str) -> None:
    shop.sql(alias, f"ALTER {change}")
    result = shop.run("run_etl")
    assert_one_line(result, 4, f"{alias} (", missing, parts)
    run = shop.runs()[-1]
    assert (run["state"], run["cause_kind"], run["cause"]) == ("failed", "configuration", result.stderr.strip())
    if alias != "dwh":
        assert shop.sql("dwh", "SELECT COUNT(*) FROM etl_load") == [(1,)]


def test_column_of_the_wrong_type(shop: Shop) -> None:
    shop.sql("orders_db", "ALTER TABLE order_items RENAME COLUMN quantity TO gone")
    shop.sql("orders_db", "ALTER TABLE order_items ADD COLUMN quantity TEXT")
    assert_run_fails(shop, 4, "orders_db (", "order_items.quantity is text, not bigint. Restore the column's type in the source database.")


def test_column_names_ignore_case(shop: Shop) -> None:
    shop.sql("orders_db", "ALTER TABLE order_items RENAME COLUMN quantity TO QUANTITY")
    assert_run_succeeds(shop)


def test_unmigrated_control_database(shop: Shop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = Shop(empty, {}).run("run_etl")
    assert_one_line(result, 4, f"control database ({empty}/control.sqlite3) lacks a table", "Run `manage.py migrate_all`.")


# --- Files ---


@needs_files
@pytest.mark.parametrize("alias", ["orders_db", "default"])
def test_file_that_is_not_a_database(shop: Shop, alias: str) -> None:
    path = shop.folder / "text.sqlite3"
    path.write_text("Not a database, whatever its name says. " * 100)
    result = shop.run("run_etl", env={settings.VARIABLES[alias]: f"sqlite:///{path}"})
    assert_one_line(result, 4, f"({path}) is not an SQLite file. Correct {settings.VARIABLES[alias]}.")
    assert path.read_text().startswith("Not a database")


@needs_files
def test_missing_folder(shop: Shop) -> None:
    assert_run_fails(shop, 4, "dwh (/nowhere/dwh.sqlite3) cannot be opened", env={"DWH_URL": "sqlite:////nowhere/dwh.sqlite3"})


@needs_files
def test_damaged_warehouse(shop: Shop) -> None:
    path = shop.folder / "dwh.sqlite3"
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    result = shop.run("run_etl")
    assert_one_line(result, 4, "dwh (", "is damaged", "Restore it from a backup.")
    path.write_bytes(content)
    assert shop.runs()[-1]["state"] in ("failed", "succeeded")


@needs_files
def test_warehouse_locked_by_another_program(shop: Shop) -> None:
    env = {"DWH_URL": f"sqlite:///{shop.folder}/dwh.sqlite3?timeout=1"}
    with closing(sqlite3.connect(shop.folder / "dwh.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_run_fails(shop, 1, "is locked by another program; nothing was published. Run it again", env=env, cause_kind="machine")
    assert_run_succeeds(shop, "--resume", "2")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make the folder read-only: by permissions, or for root, whom those do not stop, by a mount."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        (folder / "dwh.sqlite3").chmod(0o444)
        yield
        folder.chmod(0o755)
        return
    mounted = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this system does not allow bind mounts")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@needs_files
def test_read_only_warehouse(shop: Shop) -> None:
    folder = shop.folder / "warehouse"
    folder.mkdir()
    path = folder / "dwh.sqlite3"
    path.write_bytes((shop.folder / "dwh.sqlite3").read_bytes())
    with read_only(folder):
        assert_run_fails(shop, 4, f"dwh ({path}) ", "Make the file and its folder writable", env={"DWH_URL": f"sqlite:///{path}"})
    assert_run_succeeds(shop, "--resume", "2")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this system does not allow tmpfs mounts")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path, leave: int) -> None:
    usage = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"\0" * max(0, usage.f_bavail * usage.f_frsize - leave))


@needs_files
@needs_root
def test_warehouse_on_a_full_disk(shop: Shop, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        path = disk / "dwh.sqlite3"
        path.write_bytes((shop.folder / "dwh.sqlite3").read_bytes())
        (shop.folder / "dwh.sqlite3").unlink()
        (shop.folder / "dwh.sqlite3").symlink_to(path)
        fill(disk, leave=80_000)
        assert_run_fails(shop, 1, "the disk is full; nothing was published. Free space there, then run it again.", cause_kind="machine")
        (disk / "ballast").unlink()
        assert_run_succeeds(shop, "--resume", "2")


# --- Servers ---


@needs_servers
@pytest.mark.parametrize("alias", ["orders_db", "dwh", "default"])
def test_wrong_password(shop: Shop, alias: str) -> None:
    scheme, usage = shop.urls[alias].split("://")
    user, where = usage.split(":", 1)[0], usage.split("@", 1)[1]
    env = {settings.VARIABLES[alias]: f"{scheme}://{user}:topsecret@{where}"}
    parts = f"refuses user '{user}' or its password. Correct {settings.VARIABLES[alias]}"
    if alias == "default":
        assert_one_line(shop.run("run_etl", env=env), 4, parts)
    else:
        assert_run_fails(shop, 4, parts, env=env)


@needs_servers
@pytest.mark.parametrize("alias", ["catalog_db", "dwh", "default"])
def test_missing_database(shop: Shop, alias: str) -> None:
    env = {settings.VARIABLES[alias]: shop.urls[alias].replace(shop.name(alias), "nowhere")}
    parts = f"has no database 'nowhere'. Create it, or correct {settings.VARIABLES[alias]}."
    if alias == "default":
        assert_one_line(shop.run("run_etl", env=env), 4, parts)
    else:
        assert_run_fails(shop, 4, parts, env=env)
