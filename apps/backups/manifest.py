"""manifest.json: what a backup holds, and how to see that it still holds it."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from apps.backups.measure import Measures
from techmarket.errors import BackupDamaged

NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Dump:
    """One database. `bytes` and `sha256` are the file's."""

    file: str
    vendor: str
    server: str
    program: str
    bytes: int
    sha256: str
    tables: Measures


@dataclass(frozen=True)
class Manifest:
    """`began`, `ended`: UTC, ISO 8601. `databases`: by alias."""

    began: str
    ended: str
    code: str
    databases: dict[str, Dump] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps({"format": FORMAT} | asdict(self), indent=1, ensure_ascii=False) + "\n"


def read(folder: Path) -> Manifest:
    """Raises BackupDamaged where it is not ours, or not whole."""
    try:
        document: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise BackupDamaged(f"{folder / NAME} is of another version of TechMarket. Restore it with that one.")
        dumps = {alias: Dump(**dump) for alias, dump in document.pop("databases").items()}
        return Manifest(**document, databases=dumps)
    except FileNotFoundError:
        raise BackupDamaged(f"{folder} has no {NAME}: it is no backup, or not a whole one. Take another.") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupDamaged(f"{folder / NAME} cannot be read ({type(error).__name__}). Take another backup.") from None


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check(folder: Path, dump: Dump) -> None:
    """Raises BackupDamaged where the file is not the one that was written."""
    file = folder / Path(dump.file).name
    try:
        size = file.stat().st_size
        if size != dump.bytes:
            raise BackupDamaged(f"{file} has {size} bytes, not {dump.bytes}: it is cut off or another one. Take another backup.")
        if digest(file) != dump.sha256:
            raise BackupDamaged(f"{file} is damaged: its SHA-256 is not the manifest's. Take another backup.")
    except OSError as error:
        raise BackupDamaged(f"{file} cannot be read ({error.strerror}). Take another backup.") from None
