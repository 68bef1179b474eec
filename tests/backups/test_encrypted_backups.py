"""Backups that may be lost: what is encrypted, what is left out, and how a restore reads it again."""

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backups.age import MAGIC, Key
from tests.backups.conftest import FILES, LEFT_EMPTY, list_backups, list_databases, list_tables, make_backup, read_contents, wipe
from tests.conftest import PASSED_ON, ROOT
from tests.failures.conftest import ON_SERVERS, Shop, assert_one_line, wait_for_exit

NAME, HASH = "Canary-Kovalenko", "argon2id-canary-password-hash"
TOKEN, SESSION = "canary" * 10, "canarysessionkey"
ROWS, ROW_BYTES = 1_500, 64_000  # 96 MB
MEMORY_MARGIN_MB = 30
# Runs a command and prints the largest memory of it and of its children, in kilobytes.
MEASURED = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)"
MEASURED += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key(tmp_path / "key.txt")


@pytest.fixture
def encrypted(shop: Shop, key: Key) -> Path:
    """An encrypted backup of a shop with canaries."""
    plant_canaries(shop)
    return make_encrypted(shop, key)


def make_encrypted(shop: Shop, *keys: Key) -> Path:
    result = shop.run("backup", env={"BACKUP_RECIPIENT": ",".join(key.recipient for key in keys)})
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return list_backups(shop)[-1]


def plant_canaries(shop: Shop) -> None:
    shop.sql("orders_db", f"UPDATE customers SET last_name = '{NAME}' WHERE id = 1")
    shop.sql("auth_db", f"UPDATE auth_credentials SET password_hash = '{HASH}' WHERE id = 1")
    ((token,),) = shop.sql("auth_db", "SELECT MIN(id) FROM auth_tokens")
    shop.sql("auth_db", f"UPDATE auth_tokens SET token_hash = '{TOKEN}' WHERE id = {token}")
    columns = "session_key, session_data, expire_date"
    shop.sql("default", f"INSERT INTO django_session ({columns}) VALUES ('{SESSION}', 'canary-data', '2099-01-01 00:00:00')")


def find_canaries(content: bytes) -> set[str]:
    return {canary for canary in (NAME, HASH, TOKEN, SESSION) if canary.encode() in content}


def uncompress(name: str, content: bytes) -> bytes:
    """Return the rows of a dump in plain text, by the servers' own programs."""
    if ".pgdump" in name:
        return subprocess.run(["pg_restore", "--file=-"], input=content, capture_output=True, check=True).stdout
    return gzip.decompress(content) if ".gz" in name else content


def read_all(folder: Path, change: Callable[[bytes], bytes] = lambda content: content) -> bytes:
    dumps = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    return b"".join(uncompress(path.name, change(path.read_bytes())) for path in dumps)


# --- What is in the files ---


def test_no_byte_of_an_encrypted_backup_tells_a_canary(shop: Shop, encrypted: Path, key: Key) -> None:
    """Neither does it tell how much the shop sells. The same search finds what a plain backup has, and what the private key opens."""
    plain = make_backup(shop)
    assert find_canaries(read_all(plain)) == {NAME, HASH}
    assert "sum of net_amount" in (plain / "manifest.json").read_text()
    dumps = [path for path in encrypted.iterdir() if path.name != "manifest.json"]
    assert sorted(path.name for path in dumps) == sorted(f"{path.name}.age" for path in plain.iterdir() if path.name != "manifest.json")
    assert all(path.read_bytes().startswith(MAGIC) for path in dumps)
    assert {stat.S_IMODE(path.stat().st_mode) for path in encrypted.iterdir()} == {0o600}
    everything = b"".join(path.read_bytes() for path in encrypted.iterdir())
    assert find_canaries(everything) == set() and b"net_amount" not in everything
    assert find_canaries(read_all(encrypted, key.decrypt)) == {NAME, HASH}


def test_backup_says_what_it_is(shop: Shop, key: Key) -> None:
    lines = ["Signature: signed", "Encryption: none", "Left empty: default: django_session, orchestration_batch; auth_db: auth_tokens"]
    result = shop.run("backup")
    assert [line for line in result.stdout.splitlines() if line in lines] == lines
    lines[1] = f"Encryption: to {key.recipient}"
    result = shop.run("backup", env={"BACKUP_RECIPIENT": key.recipient})
    assert [line for line in result.stdout.splitlines() if line in lines] == lines
    listed = shop.run("restore", "--list").stdout.splitlines()
    newest, older = (path.name for path in reversed(list_backups(shop)))
    assert listed[0].startswith(f"{newest}  whole, 6 databases, ") and listed[1:4] == [f"    {line}" for line in lines]
    assert listed[4].startswith(f"{older}  whole, 6 databases, ") and listed[6] == "    Encryption: none"
    document = json.loads((list_backups(shop)[-1] / "manifest.json").read_text())
    left = {alias: dump["left_empty"] for alias, dump in document["databases"].items() if dump["left_empty"]}
    assert left == {"default": ["django_session", "orchestration_batch"], "auth_db": ["auth_tokens"]}
    assert document["recipients"] == [key.recipient]


# --- Restore ---


def test_encrypted_backup_is_restored_and_nobody_is_signed_in(shop: Shop, encrypted: Path, key: Key) -> None:
    before, others = read_contents(shop), list_databases(shop)
    assert (
        shop.sql("default", "SELECT COUNT(*) FROM django_session")[0][0] and shop.sql("auth_db", "SELECT COUNT(*) FROM auth_tokens")[0][0]
    )
    identity = ("--identity", str(key.file))
    verified = shop.run("backup", "--verify", encrypted.name, *identity)
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    wipe(shop)
    dry = shop.run("restore", encrypted.name, "--dry-run", *identity)
    assert (dry.returncode, dry.stderr) == (0, ""), dry.stderr
    assert not any(list_tables(shop, alias) for alias in FILES) and list_databases(shop) == others
    result = shop.run("restore", encrypted.name, env={"BACKUP_IDENTITY_FILE": str(key.file)})
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert f"Restored: {encrypted.name}, equal to its manifest." in result.stdout
    assert read_contents(shop) == before
    for alias, table in zip(("default", "default", "auth_db"), LEFT_EMPTY, strict=True):
        assert shop.sql(alias, f"SELECT COUNT(*) FROM {table}") == [(0,)]
    assert shop.run("generate_data", "--changes", "20", "--quiet").returncode == 0, "a token gets a key of its own"


def test_any_of_several_keys_opens_a_backup(shop: Shop, key: Key, tmp_path: Path) -> None:
    """The file may have keys of other backups, too, and come by stdin."""
    other, stranger = Key(tmp_path / "other.txt"), Key(tmp_path / "stranger.txt")
    folder = make_encrypted(shop, key, other)
    wipe(shop, "auth_db")
    process = shop.start("restore", folder.name, "--only", "auth_db", "--identity", "-", stdin=subprocess.PIPE)
    out, err = process.communicate(f"{stranger.file.read_text()}\n{other.file.read_text()}", timeout=300)
    assert (process.returncode, err) == (0, ""), err
    assert f"Encryption: to {key.recipient}, {other.recipient}" in out


def test_backup_without_its_key_is_refused(shop: Shop, encrypted: Path, key: Key, tmp_path: Path) -> None:
    wipe(shop)
    stranger, recipient = Key(tmp_path / "stranger.txt"), tmp_path / "recipient.txt"
    recipient.write_text(key.recipient)
    (tmp_path / "empty.txt").write_text("# created: today\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    step = "Name the file with its private key by --identity or BACKUP_IDENTITY_FILE, then run the command again."
    for command in (("restore", encrypted.name), ("restore", encrypted.name, "--dry-run"), ("backup", "--verify", encrypted.name)):
        assert_one_line(shop.run(*command), 4, f"{encrypted.name} is encrypted to {key.recipient}. {step}")
        wrong = shop.run(*command, "--identity", str(stranger.file))
        assert_one_line(wrong, 4, f"encrypted to {key.recipient}, which needs another private key. {step}")
    for name, cause in {
        "nowhere.txt": "cannot be read as a private key: No such file or directory. ",
        "recipient.txt": "has a line that is no private key (AGE-SECRET-KEY-1...). ",
        "empty.txt": "has no private key. ",
        "bytes.txt": "cannot be read as a private key: it is UTF-16",
    }.items():
        assert_one_line(shop.run("restore", encrypted.name, "--identity", str(tmp_path / name)), 4, f"{tmp_path}/{name} {cause}")
    assert not any(list_tables(shop, alias) for alias in FILES)


def test_verification_without_the_key_makes_no_backup(shop: Shop, key: Key) -> None:
    env = {"BACKUP_RECIPIENT": key.recipient}
    message = "--verify needs the private key of BACKUP_RECIPIENT, which does not belong on this machine."
    assert_one_line(shop.run("backup", "--verify", env=env), 4, message)
    assert not (shop.folder / "backups").exists()
    result = shop.run("backup", "--verify", "--identity", str(key.file), env=env)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert "was restored and is equal" in result.stdout


# --- In the middle ---


def test_killed_backup_leaves_neither_plain_text_nor_a_backup(shop: Shop, key: Key) -> None:
    plant_canaries(shop)
    env = {"BACKUP_RECIPIENT": key.recipient}
    process = shop.start("backup", env=env)
    top = shop.folder / "backups"
    shop.wait_until(lambda: len(list(top.glob(".partial-*/*.age"))) > 2, process)
    process.send_signal(signal.SIGKILL)
    assert wait_for_exit(process).returncode == -signal.SIGKILL
    (partial,) = top.glob(".partial-*")
    contents = [file.read_bytes() for file in partial.iterdir()]
    assert all(content[: len(MAGIC)] in (MAGIC, b"") for content in contents) and any(contents)
    assert find_canaries(b"".join(contents)) == set()
    assert shop.run("restore", "--list").stdout == f"There are no backups in {top}.\n"
    make_encrypted(shop, key)
    assert [path.name[0] for path in list_backups(shop)] == ["2"] and not list(shop.folder.glob(".verify-*"))


def write_large_tables(shop: Shop) -> None:
    if not ON_SERVERS:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
        shop.sql("orders_db", f"CREATE TABLE large AS {numbers} SELECT i, randomblob({ROW_BYTES}) AS body FROM n")
        return
    block = "REPEAT(CONCAT(RANDOM_BYTES(500), RANDOM_BYTES(500)), 64)"
    rows = f"orders CROSS JOIN (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) three LIMIT {ROWS}"
    shop.sql("orders_db", f"CREATE TABLE large AS SELECT id AS i, {block} AS body FROM {rows}")
    words = f"SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, {ROW_BYTES // 32}) n"
    shop.sql("dwh", f"CREATE TABLE large AS SELECT i, ({words}) AS body FROM generate_series(1, {ROWS}) i")


def measure_memory(shop: Shop, *command: str, env: dict[str, str]) -> float:
    """Return the most megabytes that the command, or a program that it starts, has had."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    arguments = [sys.executable, "-c", MEASURED, sys.executable, str(ROOT / "manage.py"), *command]
    result = subprocess.run(arguments, env=passed_on | shop.env | env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return int(result.stdout) / 1024


def test_memory_does_not_grow_with_the_database(shop: Shop, key: Key) -> None:
    """Of 96 MB in one table: neither a backup nor its verification has more than a fraction in memory at once."""
    env = {"BACKUP_RECIPIENT": key.recipient, "BACKUP_IDENTITY_FILE": str(key.file)}
    before = measure_memory(shop, "backup", env=env), measure_memory(shop, "backup", "--verify", list_backups(shop)[-1].name, env=env)
    write_large_tables(shop)
    after = measure_memory(shop, "backup", env=env), measure_memory(shop, "backup", "--verify", list_backups(shop)[-1].name, env=env)
    print(f"MB before {before}, after {after}")
    assert max(after[0] - before[0], after[1] - before[1]) < MEMORY_MARGIN_MB, (before, after)
