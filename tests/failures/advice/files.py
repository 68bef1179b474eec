"""Causes on SQLite files, and those that any database has."""

import os
import resource
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.backups.conftest import make_backup
from tests.failures.advice.steps import Command, Scene, run_named_command
from tests.failures.conftest import Shop, wait_for_exit
from tests.failures.test_databases import CLOSED, fill, listening, read_only, small_disk

KPIS = ("kpis",)


def new_installation(shop: Shop) -> Scene:
    """A warehouse in which nobody has run the migrations."""
    (shop.folder / "dwh.sqlite3").unlink()
    advice = yield Command(KPIS)
    run_named_command(shop, advice)
    yield Command(KPIS)


def lost_table(shop: Shop) -> Scene:
    return renamed(shop, "dwh", "TABLE dim_region RENAME TO gone", "TABLE gone RENAME TO dim_region")


def lost_column(shop: Shop) -> Scene:
    return renamed(shop, "dwh", "TABLE fact_sales RENAME COLUMN net_amount TO gone", "TABLE fact_sales RENAME COLUMN gone TO net_amount")


def missing_source_table(shop: Shop) -> Scene:
    return renamed(shop, "auth_db", "TABLE user_roles RENAME TO gone", "TABLE gone RENAME TO user_roles")


def missing_source_column(shop: Shop) -> Scene:
    return renamed(shop, "catalog_db", "TABLE products RENAME COLUMN cost TO gone", "TABLE products RENAME COLUMN gone TO cost")


def renamed(shop: Shop, alias: str, change: str, back: str) -> Scene:
    """The step is to restore it there."""
    shop.sql(alias, f"ALTER {change}")
    yield Command()
    shop.sql(alias, f"ALTER {back}")
    yield Command()


def other_type(shop: Shop) -> Scene:
    shop.sql("orders_db", "ALTER TABLE order_items RENAME COLUMN quantity TO gone")
    shop.sql("orders_db", "ALTER TABLE order_items ADD COLUMN quantity TEXT")
    yield Command()
    shop.sql("orders_db", "ALTER TABLE order_items DROP COLUMN quantity")
    shop.sql("orders_db", "ALTER TABLE order_items RENAME COLUMN gone TO quantity")
    yield Command()


# --- Addresses ---


def stopped_server(shop: Shop) -> Scene:
    """Two steps are named: the start of the server is taken in test_restarts.py."""
    yield Command(env={"DWH_URL": CLOSED["dwh"]})
    yield Command()


def unknown_host(shop: Shop) -> Scene:
    yield Command(env={"ORDERS_DB_URL": "mysql://user:topsecret@nohost.invalid/shop"})
    yield Command()


def port_of_another_program(shop: Shop) -> Scene:
    with listening(answers=True) as port:
        yield Command(env={"DWH_URL": f"postgres://user:topsecret@127.0.0.1:{port}/shop?connect_timeout=2"})
    yield Command()


def option_of_the_driver(shop: Shop) -> Scene:
    yield Command(env={"DWH_URL": "postgres://user:topsecret@127.0.0.1:1/shop?gssencmode=require"})
    yield Command()


# --- Files and disks ---


def missing_folder(shop: Shop) -> Scene:
    yield Command(env={"DWH_URL": "sqlite:////nowhere/dwh.sqlite3"})
    yield Command()


def read_only_folder(shop: Shop) -> Scene:
    folder = shop.folder / "warehouse"
    folder.mkdir()
    shutil.move(shop.folder / "dwh.sqlite3", folder)
    env = {"DWH_URL": f"sqlite:///{folder}/dwh.sqlite3"}
    with read_only(folder):
        yield Command(env=env)
    yield Command(env=env)


def read_only_file(shop: Shop) -> Scene:
    """By permissions, or for root, whom those do not stop, by a mount."""
    path = shop.folder / "dwh.sqlite3"
    if os.geteuid() != 0:
        path.chmod(0o444)
        yield Command()
        path.chmod(0o644)
    else:
        if subprocess.run(["mount", "--bind", str(path), str(path)], capture_output=True).returncode != 0:
            pytest.skip("this system does not allow bind mounts")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
            yield Command()
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)
    yield Command()


def foreign_file(shop: Shop) -> Scene:
    (shop.folder / "text").write_text("Not a database, whatever its name says. " * 100)
    yield Command(env={"ORDERS_DB_URL": f"sqlite:///{shop.folder}/text"})
    yield Command()


def damaged_file(shop: Shop) -> Scene:
    backup = make_backup(shop)
    path = shop.folder / "dwh.sqlite3"
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    yield Command()
    path.unlink()
    restored = shop.run("restore", backup.name, "--only", "dwh")
    assert restored.returncode == 0, restored.stderr
    yield Command()


def locked_file(shop: Shop) -> Scene:
    env = {"DWH_URL": f"sqlite:///{shop.folder}/dwh.sqlite3?timeout=1"}
    with closing(sqlite3.connect(shop.folder / "dwh.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield Command(env=env)
    yield Command(env=env)


def full_disk(shop: Shop) -> Scene:
    with small_disk(shop.folder / "disk", 8) as disk:
        shutil.move(shop.folder / "dwh.sqlite3", disk)
        fill(disk, leave=80_000)
        env = {"DWH_URL": f"sqlite:///{disk}/dwh.sqlite3"}
        yield Command(env=env)
        (disk / "ballast").unlink()
        yield Command(env=env)


def disk_that_refuses_a_write(shop: Shop) -> Scene:
    """For another reason than that it is full: here, the largest size of a file."""
    own = shop.run

    def run_with_small_files(*args: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return wait_for_exit(shop.start(*args, env=env, preexec_fn=limit_files))

    shop.run = run_with_small_files  # type: ignore[method-assign, assignment]
    yield Command()
    shop.run = own  # type: ignore[method-assign]
    yield Command()


def limit_files() -> None:
    size = 300_000  # bytes: less than the warehouse's file, more than the one in which coverage notes what the command has executed
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
