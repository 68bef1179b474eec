"""What happens to the files of a shop: each function returns one that is given the folder of the case."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Damage = Callable[[Path], None]
HEADER_BYTES = 8192  # of a SQLite file, enough for it to be taken for one


def sql(file: str, *statements: str) -> Damage:
    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / f"{file}.sqlite3")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return damage


def write(file: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / f"{file}.sqlite3").write_bytes(content)

    return damage


def cut(file: str, length: int) -> Damage:
    return lambda folder: os.truncate(folder / f"{file}.sqlite3", length)


def spoil(file: str) -> Damage:
    """Overwrite everything but the header."""

    def damage(folder: Path) -> None:
        path = folder / f"{file}.sqlite3"
        content = path.read_bytes()
        path.write_bytes(content[:HEADER_BYTES] + b"\xff" * (len(content) - HEADER_BYTES))

    return damage


def remove(file: str) -> Damage:
    return lambda folder: (folder / f"{file}.sqlite3").unlink()


def make_folder(file: str) -> Damage:
    """Put a folder in the place of the file."""

    def damage(folder: Path) -> None:
        remove(file)(folder)
        (folder / f"{file}.sqlite3").mkdir()

    return damage


def write_backup(manifest: bytes | None = None) -> Damage:
    """Make a backup with this manifest, or with none, and without a dump."""

    def damage(folder: Path) -> None:
        backup = folder / "backups" / "2026-01-31T02-00-00"
        backup.mkdir(parents=True)
        if manifest is not None:
            (backup / "manifest.json").write_bytes(manifest)

    return damage
