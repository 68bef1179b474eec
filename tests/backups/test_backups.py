"""`manage.py backup` and `manage.py restore`: everything is restored, and damaged backups are refused before anything changes."""

import fcntl
import hashlib
import hmac
import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.backups import manifest
from apps.backups.stores.mysql import LOCK_WAIT_S
from apps.backups.stores.postgres import find_version_mismatch
from techmarket.errors import BackupDamaged
from tests.backups.conftest import list_backups, list_databases, list_tables, make_backup, read_contents, wipe
from tests.failures.conftest import (
    FILES,
    Shop,
    administer,
    assert_one_line,
    needs_files,
    needs_root,
    needs_servers,
    passwords,
    wait_for_exit,
)
from tests.failures.test_databases import fill, small_disk

plain_and_encrypted = pytest.mark.usefixtures("encryption")


def read_dumps(folder: Path) -> dict[str, dict[str, object]]:
    """Return the databases of the manifest, by alias."""
    databases: dict[str, dict[str, object]] = json.loads((folder / "manifest.json").read_text())["databases"]
    return databases


def sign_again(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as whoever has the installation's SECRET_KEY can: HMAC-SHA256 of its canonical JSON, by a salted key."""
    document = json.loads((folder / "manifest.json").read_text())
    del document["signature"]
    change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    key = hashlib.sha256(b"techmarket.backups.manifest" + settings.SECRET_KEY.encode()).digest()
    (folder / "manifest.json").write_text(json.dumps(document | {"signature": hmac.new(key, text, "sha256").hexdigest()}))


# --- Restore ---


def test_backup_is_restored_completely(shop: Shop) -> None:
    """Into migrated, unused databases, such as those of a stack that has just been started."""
    before, others = read_contents(shop), list_databases(shop)
    folder = make_backup(shop, "--verify")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", folder.name)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert list_backups(shop) == [folder]
    assert list_databases(shop) == others
    wipe(shop)
    assert shop.run("migrate_all", "-v", "0").returncode == 0
    fresh = read_contents(shop)
    dry = shop.run("restore", folder.name, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "") and "can be restored" in dry.stdout
    assert read_contents(shop) == fresh
    result = shop.run("restore", folder.name)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert f"Restored: {folder.name}, equal to its manifest." in result.stdout
    assert read_contents(shop) == before
    # Sequences continue after the restored keys, and a full load can still swap the partition of the fact table.
    assert shop.run("generate_data", "--changes", "20", "--quiet").returncode == 0
    assert shop.run("run_etl", "--mode", "full", "--quiet").returncode == 0
    assert shop.runs()[-1]["state"] == "succeeded"


@needs_servers
def test_grants_are_restored_for_existing_roles(shop: Shop) -> None:
    remaining, dropped = f"remaining_{os.getpid()}", f"dropped_{os.getpid()}"
    for role in (remaining, dropped):
        administer("dwh", f"CREATE ROLE {role}")
        shop.sql("dwh", f"GRANT SELECT ON fact_sales, dim_date TO {role}")
    try:
        folder = make_backup(shop)
        wipe(shop, "dwh")
        administer("dwh", f"DROP ROLE {dropped}")
        result = shop.run("restore", folder.name, "--only", "dwh")
        assert result.returncode == 0, result.stderr
        assert result.stderr == f"dwh: no rights granted to {dropped}: the role does not exist here, or this user may not grant.\n"
        readable = f"SELECT relname FROM pg_class WHERE relname ~ '^(dim|fact)' AND has_table_privilege('{remaining}', oid, 'SELECT')"
        assert {row[0] for row in shop.sql("dwh", readable) if "_pk" not in row[0]} >= {"fact_sales", "dim_date"}
        assert shop.sql("dwh", "SELECT relkind FROM pg_class WHERE relname = 'fact_sales'") == [("p",)]
    finally:
        shop.sql("dwh", f"DROP OWNED BY {remaining}")
        administer("dwh", f"DROP ROLE {remaining}")


@contextmanager
def constant_writes(shop: Shop) -> Iterator[None]:
    """Insert and update payments in a thread all the time."""
    stopped = threading.Event()

    def write_payments() -> None:
        with closing(shop.connect("payments_db")) as connection:
            cursor = connection.cursor()
            while not stopped.wait(0.002):
                columns = "order_id, method, status, amount, paid_at, created_at, updated_at"
                cursor.execute(f"INSERT INTO payments ({columns}) SELECT {columns} FROM payments ORDER BY id LIMIT 3")
                cursor.execute("UPDATE payments SET amount = amount + 1 WHERE id = 7")
                connection.commit()

    thread = threading.Thread(target=write_payments)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_backup_during_writes_is_of_one_instant(shop: Shop) -> None:
    """The dump agrees with the counts and sums in the manifest although thousands of rows are inserted meanwhile."""
    rows = shop.sql("payments_db", "SELECT COUNT(*) FROM payments")[0][0]
    with constant_writes(shop):
        first, second = make_backup(shop, "--verify"), make_backup(shop, "--verify")
    counts = [read_dumps(folder)["payments_db"]["tables"]["payments"]["rows"] for folder in (first, second)]  # type: ignore[index]
    assert rows < counts[0] < counts[1]


@needs_servers
def test_backup_waits_for_a_long_transaction(shop: Shop) -> None:
    """The transaction lasts longer than one attempt to lock the tables."""
    with closing(shop.connect("orders_db")) as other:
        other.autocommit(False)
        other.cursor().execute("UPDATE orders SET status = 'paid' WHERE id = 1")
        timer = threading.Timer(LOCK_WAIT_S + 4, other.commit)
        timer.start()
        make_backup(shop)
        timer.join()


@needs_servers
def test_tables_that_runs_have_prepared_are_left_out(shop: Shop) -> None:
    """But neither a partition nor a table of another schema, whatever its name."""
    shop.sql("dwh", "CREATE TABLE fact_sales_9_first (id bigint)")
    shop.sql("dwh", "CREATE SCHEMA other")
    shop.sql("dwh", "CREATE TABLE other.fact_sales_9_first AS SELECT generate_series(1, 3) AS id")
    leaf = shop.sql("dwh", "SELECT relid::regclass::text FROM pg_partition_tree('fact_sales') WHERE isleaf LIMIT 1")[0][0]
    for relation in ("fact_sales_9_first", leaf):
        columns = "run_uuid, run_id, fact, relation, is_partition, findings"
        values = f"gen_random_uuid(), 9, 'fact_sales', '{relation}', true, '{{}}'"
        shop.sql("dwh", f"INSERT INTO etl_prepared ({columns}) VALUES ({values})")
    rows = shop.sql("dwh", "SELECT COUNT(*) FROM fact_sales")[0][0]
    tables = read_dumps(make_backup(shop, "--verify"))["dwh"]["tables"]
    assert "fact_sales_9_first" not in tables  # type: ignore[operator]
    assert tables["fact_sales"]["rows"] == rows > 0 and tables["other.fact_sales_9_first"]["rows"] == 3  # type: ignore[index]


# --- Refusals ---


def test_damaged_backup_is_refused(shop: Shop) -> None:
    folder = make_backup(shop)
    wipe(shop)
    original = {path.name: path.read_bytes() for path in folder.iterdir()}
    dump = str(read_dumps(folder)["orders_db"]["file"])
    flipped = bytearray(original[dump])
    flipped[len(flipped) // 2] ^= 1
    (folder / dump).write_bytes(flipped)
    assert_one_line(shop.run("restore", folder.name), 1, "is damaged: its SHA-256 differs from the manifest. Choose another backup.")
    (folder / dump).write_bytes(original[dump])
    sign_again(folder, lambda document: document["databases"]["dwh"].update(vendor="oracle"))
    assert_one_line(shop.run("restore", folder.name), 4, "but DWH_URL names another kind of server.")
    message = f"No backup '2020-01-01T00-00-00' in {shop.folder}/backups. The latest: {folder.name}."
    assert_one_line(shop.run("restore", "2020-01-01T00-00-00"), 2, message)
    assert not any(list_tables(shop, alias) for alias in FILES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dwh.pgdump", b"a du", "has 4 bytes, not 6: it is truncated or was replaced."),
        ("dwh.pgdump", b"a dumb", "is damaged: its SHA-256 differs from the manifest."),
        ("dwh.pgdump", None, r"cannot be read \(No such file or directory\)."),
        ("manifest.json", b'{"format": 1, "data', "manifest.json is damaged"),
        ("manifest.json", b'{"format": 1, "databases": [1]}', "manifest.json is damaged"),
        ("manifest.json", b'{"format": 3}', "was written by another version of TechMarket."),
        ("manifest.json", None, "has no manifest.json: it is not a complete backup."),
    ],
)
def test_incomplete_backup_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    dump = manifest.Dump("dwh.pgdump", "postgresql", "", "", 6, hashlib.sha256(b"a dump").hexdigest(), {})
    (tmp_path / dump.file).write_bytes(b"a dump")
    (tmp_path / manifest.NAME).write_text(manifest.Manifest("", "", "", {"dwh": dump}).to_json())
    manifest.check_dump(tmp_path, manifest.read_manifest(tmp_path).databases["dwh"])
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(BackupDamaged, match=message):
        manifest.check_dump(tmp_path, manifest.read_manifest(tmp_path).databases["dwh"])


def test_databases_with_rows_are_refused(shop: Shop) -> None:
    before = read_contents(shop)
    folder = make_backup(shop)
    wipe(shop, "auth_db")
    result = shop.run("restore", folder.name)
    assert_one_line(result, 4, "Not empty: control database (", "orders_db (", "has rows in customers, employees, order_items and 2 more")
    assert "auth_db (" not in result.stderr
    assert shop.run("restore", folder.name, "--only", "auth_db").returncode == 0
    assert read_contents(shop) == before


def test_restore_is_skipped_during_an_active_run(shop: Shop) -> None:
    folder = make_backup(shop)
    wipe(shop, "auth_db")
    shop.sql("default", "UPDATE orchestration_run SET state = 'running' WHERE id = 1")
    assert_one_line(
        shop.run("restore", folder.name, "--only", "auth_db"), 3, "Active: run 1 requested by", "`manage.py run_etl --cancel 1`"
    )
    assert list_tables(shop, "auth_db") == []


def test_verify_reports_differences_from_the_manifest(shop: Shop) -> None:
    others = list_databases(shop)
    folder = make_backup(shop)
    assert shop.run("backup", "--verify", folder.name).returncode == 0
    sales = read_dumps(folder)["dwh"]["tables"]["fact_sales"]  # type: ignore[index]
    rows, net = sales["rows"], sales["sum of net_amount"]
    others_numbers = {"rows": rows + 1, "sum of net_amount": "1.00"}
    sign_again(folder, lambda document: document["databases"]["dwh"]["tables"]["fact_sales"].update(others_numbers))
    differences = (f"dwh: fact_sales: rows is {rows}, not {rows + 1}", f"sum of net_amount is {net}, not 1.00")
    assert_one_line(shop.run("backup", "--verify", folder.name), 1, *differences)
    assert list_databases(shop) == others
    assert list_backups(shop) == [folder]


@needs_servers
def test_interrupted_verification_leaves_no_database(shop: Shop) -> None:
    others, folder = list_databases(shop), make_backup(shop)
    process = shop.start("backup", "--verify", folder.name)
    shop.wait_until(lambda: list_databases(shop) != others, process)
    process.terminate()
    assert_one_line(wait_for_exit(process), 130, "Cancelled.")
    assert list_databases(shop) == others


# --- Retention ---


@needs_files
def test_oldest_backups_are_removed_and_other_folders_remain(shop: Shop) -> None:
    top = shop.folder / "elsewhere"
    (top / "2001-01-01T00-00-00").mkdir(parents=True)
    (top / "notes").mkdir()
    (top / ".partial-1").mkdir()
    for _ in range(3):
        assert shop.run("backup", "--to", str(top), "--keep", "2").returncode == 0
    names = sorted(path.name for path in top.iterdir())
    assert names[:2] == [".lock", "2001-01-01T00-00-00"] and names[-1] == "notes" and len(names) == 5
    assert_one_line(shop.run("backup", "--keep", "0"), 2, "from 1 to 10000")


@needs_files
def test_backup_named_by_a_wrong_clock_outlives_none_made_since(shop: Shop) -> None:
    top = shop.folder / "elsewhere"
    assert shop.run("backup", "--to", str(top)).returncode == 0
    (made,) = (path for path in top.iterdir() if path.is_dir())
    made.rename(top / "2099-01-01T00-00-00")
    result = shop.run("backup", "--to", str(top), "--keep", "1")
    assert "Removed: 2099-01-01T00-00-00" in result.stdout
    assert [path.name[:2] for path in top.iterdir() if path.is_dir()] == ["20"] and not (top / "2099-01-01T00-00-00").exists()


@needs_root
@plain_and_encrypted
def test_backup_on_a_full_disk(shop: Shop, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        fill(disk, leave=150_000)
        result = shop.run("backup", "--to", str(disk / "backups"))
        assert_one_line(result, 1, f"{disk}/backups: the disk is full; no backup was made. Free space there, then run the command again.")
        assert [path.name for path in (disk / "backups").iterdir()] == [".lock"]


def test_folder_that_cannot_be_created(shop: Shop) -> None:
    (shop.folder / "file").write_text("")
    assert_one_line(
        shop.run("backup", "--to", str(shop.folder / "file" / "backups")),
        4,
        "cannot be written (Not a directory). Choose another folder (BACKUP_DIR or --to)",
    )


# --- Client programs ---


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH with links to the real programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("mariadb-dump", "mysqldump", "mariadb", "mysql", "git", "sh", "head", "sleep"):
        if path := shutil.which(name):
            (folder / name).symlink_to(Path(path).resolve() if "maria" in path else path)
    return folder


def replace_mysqldump(programs: Path, script: str) -> None:
    """Put a shell script in the place of mysqldump, under both of its names."""
    for name in ("mariadb-dump", "mysqldump"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {shutil.which("mysqldump")} --version\n{script}\n')
        (programs / name).chmod(0o755)


@pytest.mark.parametrize(
    ("server", "program", "mismatch"),
    [
        (15, "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", ""),
        (15, "pg_dump (PostgreSQL) 16.4", ""),
        (18, "pg_dump (PostgreSQL) 18.1", ""),
        (15, "pg_dump (PostgreSQL) 14.9", "older"),
        (15, "pg_restore (PostgreSQL) 17.2", "too new to restore there"),
        (16, "pg_restore (PostgreSQL) 17.2", "too new to restore there"),
        (17, "pg_dump (PostgreSQL) 18.1", ""),
        (15, "?", "older"),
    ],
)
def test_versions_of_client_programs(server: int, program: str, mismatch: str) -> None:
    """pg_restore 17 sets transaction_timeout, which PostgreSQL 15 refuses: seen in a container with the wrong client."""
    assert find_version_mismatch(server, program) == mismatch


@needs_servers
@plain_and_encrypted
def test_failed_dump_leaves_no_backup(shop: Shop, programs: Path) -> None:
    env, real = {"PATH": str(programs)}, shutil.which("mysqldump")
    replace_mysqldump(programs, f'{real} "$@" | head -c 3000; kill -9 $$')
    assert_one_line(shop.run("backup", env=env), 1, "auth_db (127.0.0.1:", "dump was killed (SIGKILL). Run the command again.")
    replace_mysqldump(programs, f'{real} "$@" | head -c 3000')
    assert_one_line(
        shop.run("backup", env=env), 1, "auth_db (127.0.0.1:", "dump ended before the dump was complete. Run the command again."
    )
    replace_mysqldump(programs, "echo 'mysqldump: Got error: 28: no space' >&2; exit 2")
    assert_one_line(
        shop.run("backup", env=env), 1, "failed: mysqldump: Got error: 28: no space. Fix the cause, then run the command again."
    )
    for name in ("mariadb-dump", "mysqldump"):
        (programs / name).unlink()
    assert_one_line(shop.run("backup", env=env), 4, "is not installed. Install Debian's package default-mysql-client (or mariadb-client).")
    assert list_backups(shop) == []


@needs_servers
@plain_and_encrypted
def test_failed_restore_can_be_continued(shop: Shop, programs: Path) -> None:
    before, folder = read_contents(shop), make_backup(shop)
    wipe(shop)
    for name in ("mariadb", "mysql"):
        real = (programs / name).resolve()
        (programs / name).unlink()
        (programs / name).write_text(f'#!/bin/sh\ncase "$*" in *orders*) head -c 9000 | {real} "$@"; kill -9 $$;; esac; exec {real} "$@"\n')
        (programs / name).chmod(0o755)
    result = shop.run("restore", folder.name, env={"PATH": str(programs)})
    rest = "Restored before that: default, dwh, auth_db, catalog_db; continue with --only orders_db --only payments_db."
    assert_one_line(result, 1, "orders_db (127.0.0.1:", "was killed (SIGKILL). Run the command again.", rest)
    assert list_tables(shop, "orders_db") == []
    assert shop.run("restore", folder.name, "--only", "orders_db", "--only", "payments_db").returncode == 0
    assert read_contents(shop) == before


@needs_servers
def test_no_password_on_a_command_line_or_in_a_backup(shop: Shop, programs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    replace_mysqldump(programs, f'echo "$@" >>{log}; exec {shutil.which("mysqldump")} "$@"')
    result = shop.run("backup", "-v", "3", env={"PATH": str(programs)})
    assert result.returncode == 0, result.stderr
    text = log.read_text() + result.stdout + result.stderr + (list_backups(shop)[0] / "manifest.json").read_text()
    assert log.read_text().count("--single-transaction") == len(settings.SOURCES) + 1  # auth_db again, for a table without rows
    assert passwords() and not any(password in text for password in passwords())


@plain_and_encrypted
def test_interrupt_leaves_no_backup(shop: Shop) -> None:
    process = shop.start("backup")
    shop.wait_until(lambda: list((shop.folder / "backups").glob(".partial-*/*")), process)
    process.terminate()
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) in ((130, "Cancelled.\n"), (0, ""))  # the backup may have finished before the signal
    assert all(path.name[0] == "2" for path in list_backups(shop)) and len(list_backups(shop)) == (process.returncode == 0)


def test_only_one_backup_at_a_time(shop: Shop) -> None:
    (shop.folder / "backups").mkdir()
    with (shop.folder / "backups" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_one_line(shop.run("backup"), 3, "Another backup is being made in")
