"""What has been changed, lost, added or exchanged in a backup is refused before a database is touched, and so is a forged manifest."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.backups.restore import Trust, check_backup
from techmarket.errors import BackupDamaged
from tests.backups.age import Key
from tests.backups.conftest import list_backups, list_tables, make_backup, read_contents, wipe
from tests.failures.conftest import FILES, Shop, assert_one_line

OTHER_KEY = "another-k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
UNSIGNED = "is not signed: version 0.1.0 made it, or somebody has removed its signature."
FOREIGN = "is not signed by the SECRET_KEY of this installation, or its manifest was changed."
Tampering = Callable[[Path, Path], None]  # with a backup, and another one of the same shop


def flip_bit(place: float) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return flip


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "first bit": flip_bit(0),
    "a bit in the middle": flip_bit(0.5),
    "last bit": flip_bit(1),
    "truncated": lambda content: content[:-2],  # a manifest ends with a newline
    "emptied": lambda _: b"",
    "prolonged": lambda content: content + b"\0",
}


def tamper(folder: Path, other: Path) -> Iterator[str]:
    """Change each file of the backup in each way, one after another; it is whole again after each."""
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        for what, change in CHANGES.items():
            file.write_bytes(change(content))
            yield f"{file.name}: {what}"
        file.unlink()
        yield f"{file.name}: removed"
        shutil.copy(other / file.name, file)
        yield f"{file.name}: of another backup"
        file.write_bytes(content)
    for name in ("orders_db.sql", "manifest.json.orig", ".hidden"):
        (folder / name).write_bytes(b"")
        yield f"{name}: added"
        (folder / name).unlink()


def change_values(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the document once for each value in it, with that value changed, and once for each key, without it."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield f"{where}.{key} removed", {name: other for name, other in value.items() if name != key}
            for changed, replaced in change_values(each, f"{where}.{key}"):
                yield changed, value | {key: replaced}
        yield f"{where} added to", value | {"more": 1}
    elif isinstance(value, list):
        yield f"{where} prolonged", [*value, "orders"]
    elif isinstance(value, int):
        yield f"{where} increased", value + 1
    else:
        yield f"{where} changed", f"{value or ''}1"


def is_refused(folder: Path, trust: Trust) -> bool:
    try:
        check_backup(folder, trust)
    except BackupDamaged:
        return True
    return False


@pytest.fixture
def pair(shop: Shop) -> tuple[Path, Path]:
    """Two backups of the same shop, encrypted to one key: no file of one equals one of the other."""
    key = Key(shop.folder / "key.txt")
    env = {"BACKUP_RECIPIENT": key.recipient}
    for _ in range(2):
        result = shop.run("backup", env=env)
        assert result.returncode == 0, result.stderr
    first, second = list_backups(shop)
    return first, second


# --- Tampering ---


def test_every_change_of_a_file_is_refused(pair: tuple[Path, Path], shop: Shop) -> None:
    trust = Trust(identity=str(shop.folder / "key.txt"))
    accepted = [what for what in tamper(*pair) if not is_refused(pair[0], trust)]
    assert accepted == []


def test_every_change_of_a_value_in_a_manifest_is_refused(shop: Shop) -> None:
    folder = make_backup(shop)
    file = folder / "manifest.json"
    document = json.loads(file.read_text())
    accepted, count = [], 0
    for where, changed in change_values(document):
        file.write_text(json.dumps(changed))
        count += 1
        if not is_refused(folder, Trust()):
            accepted.append(where)
    assert count > 300 and accepted == []


@pytest.mark.parametrize("what", ["changed", "truncated", "removed", "added", "exchanged", "manifest"])
def test_every_command_refuses(pair: tuple[Path, Path], shop: Shop, what: str) -> None:
    """Before a database is touched."""
    folder, other = pair
    file = next(folder.glob("orders_db*"))
    content = file.read_bytes()
    step: dict[str, Callable[[], object]] = {
        "changed": lambda: file.write_bytes(flip_bit(0.5)(content)),
        "truncated": lambda: file.write_bytes(content[:-1]),
        "removed": file.unlink,
        "added": lambda: (folder / "orders_db.sql").write_text("DROP TABLE orders;"),
        "exchanged": lambda: shutil.copy(other / file.name, file),
        "manifest": lambda: (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace("age1", "age2", 1)),
    }
    step[what]()
    cause = {
        "changed": "is damaged: its SHA-256 differs from the manifest.",
        "truncated": "it is truncated or was replaced.",
        "removed": "cannot be read (No such file or directory).",
        "added": "has files that its manifest does not list: orders_db.sql.",
        "exchanged": "is damaged: its SHA-256 differs from the manifest.",
        "manifest": FOREIGN,
    }[what]
    wipe(shop)
    identity = ("--identity", str(shop.folder / "key.txt"))
    for command in (("restore", folder.name), ("restore", folder.name, "--dry-run"), ("backup", "--verify", folder.name)):
        result = shop.run(*command, *identity)
        assert_one_line(result, 1, "")
        assert cause in result.stderr or "it is truncated or was replaced." in result.stderr
    assert not any(list_tables(shop, alias) for alias in FILES)
    listed = shop.run("restore", "--list")
    assert_one_line(listed, 1, f"1 of 2 backups are refused: {folder.name}. Choose another one.")
    assert f"{folder.name}  REFUSED: " in listed.stdout and f"{other.name}  whole, 6 databases" in listed.stdout
    assert shop.run("restore", "--list", other.name).returncode == 0


# --- Keys ---


def test_backup_of_another_installation_needs_its_key_or_a_reason(shop: Shop) -> None:
    before, folder = read_contents(shop), make_backup(shop)
    wipe(shop)
    other = {"SECRET_KEY": OTHER_KEY}
    assert_one_line(shop.run("restore", folder.name, env=other), 1, f"{folder.name} {FOREIGN} Add the key with which it was made to ")
    assert_one_line(shop.run("backup", "--verify", folder.name, env=other), 1, FOREIGN)
    assert not any(list_tables(shop, alias) for alias in FILES)
    key = shop.run("shell", "-c", "from django.conf import settings; print(settings.SECRET_KEY)").stdout.split()[-1]
    rotated = shop.run("restore", folder.name, "--only", "auth_db", env=other | {"SECRET_KEY_FALLBACKS": key})
    assert (rotated.returncode, rotated.stderr) == (0, ""), rotated.stderr
    wipe(shop, "auth_db")
    accepted = shop.run("restore", folder.name, "--accept-unsigned", "the machine burnt, with its key", env=other)
    assert (accepted.returncode, accepted.stderr) == (0, ""), accepted.stderr
    assert read_contents(shop) == before
    assert last_entry(shop) == ("backup_restored", "the machine burnt, with its key")


def last_entry(shop: Shop, deed: str = "") -> tuple[str, str]:
    where = f"WHERE deed = '{deed}'" if deed else ""
    ((last, reason),) = shop.sql("default", f"SELECT deed, reason FROM audit_entry {where} ORDER BY number DESC LIMIT 1")
    return str(last), str(reason)


def test_accepted_backup_is_recorded_before_it_is_used(shop: Shop) -> None:
    folder = make_backup(shop)
    remove_signature(folder)
    verified = shop.run("backup", "--verify", folder.name, "--accept-unsigned", "drill")
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    assert last_entry(shop) == ("backup_accepted", "drill")


def remove_signature(folder: Path) -> None:
    """Leave the manifest as version 0.1.0 would have written it."""
    document = json.loads((folder / "manifest.json").read_text())
    for name in ("signature", "recipients", "measures"):
        del document[name]
    for dump in document["databases"].values():
        del dump["left_empty"]
    (folder / "manifest.json").write_text(json.dumps(document | {"format": 1}))


def test_earlier_backup_is_listed_and_restored_with_a_reason(shop: Shop) -> None:
    before, folder = read_contents(shop), make_backup(shop)
    remove_signature(folder)
    listed = shop.run("restore", "--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.splitlines()[1:] == ["    Signature: not signed", "    Encryption: none", "    Left empty: no table"]
    wipe(shop)
    assert_one_line(shop.run("restore", folder.name), 1, f"{folder.name} {UNSIGNED} Look where it is from; ", "--accept-unsigned and the")
    assert_one_line(shop.run("restore", folder.name, "--accept-unsigned", " "), 2, "argument --accept-unsigned: the reason is empty.")
    result = shop.run("restore", folder.name, "--accept-unsigned", "made before the upgrade")
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert read_contents(shop) == before
    assert last_entry(shop) == ("backup_restored", "made before the upgrade")


def test_accepted_backup_whose_files_were_changed_is_refused_all_the_same(shop: Shop) -> None:
    folder = make_backup(shop)
    remove_signature(folder)
    file = next(folder.glob("orders_db*"))
    file.write_bytes(flip_bit(0.5)(file.read_bytes()))
    wipe(shop)
    assert_one_line(shop.run("restore", folder.name, "--accept-unsigned", "why not"), 1, "its SHA-256 differs from the manifest.")
    assert not any(list_tables(shop, alias) for alias in FILES)


def test_accepted_backup_with_a_forged_cipher_changes_nothing(shop: Shop) -> None:
    """Whoever forges a manifest can make its hashes fit, but not the cipher of a file that was cut at the end of a part of 64 KiB."""
    key = Key(shop.folder / "key.txt")
    shop.sql("orders_db", f"CREATE TABLE noise AS SELECT '{secrets.token_hex(100_000)}' AS body")
    assert shop.run("backup", env={"BACKUP_RECIPIENT": key.recipient}).returncode == 0
    (folder,) = list_backups(shop)
    file = next(folder.glob("orders_db*"))
    content = file.read_bytes()
    assert len(content) > 66_000
    header = content.index(b"\n", content.index(b"\n--- ") + 1) + 1
    for cut in (content[: header + 16 + 65_552], flip_bit(0.9)(content)):
        file.write_bytes(cut)
        forge(folder, file, cut)
        wipe(shop, "orders_db")
        result = shop.run(
            "restore", folder.name, "--only", "orders_db", "--identity", str(key.file), "--accept-unsigned", "a drill with a forged one"
        )
        assert_one_line(result, 1, f"{file} cannot be decrypted (", "): it is damaged. Choose another backup.")
        assert list_tables(shop, "orders_db") == []


def forge(folder: Path, file: Path, content: bytes) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    (dump,) = (dump for dump in document["databases"].values() if dump["file"] == file.name)
    dump |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(document))
