"""manifest.json: what a backup contains, and the check that its files are unchanged."""

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
    """The dump of one database. `bytes` and `sha256` are those of the file."""

    file: str
    vendor: str
    server: str
    program: str
    bytes: int
    sha256: str
    tables: Measures


@dataclass(frozen=True)
class Manifest:
    """A backup. `began` and `ended` are UTC in ISO 8601, `code` is the commit, `databases` are by alias."""

    began: str
    ended: str
    code: str
    databases: dict[str, Dump] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT} | asdict(self), indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest. Raises BackupDamaged where it is missing, invalid or of another version."""
    try:
        document: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise BackupDamaged(f"{folder / NAME} was written by another version of TechMarket. Restore it with that version.")
        dumps = {alias: Dump(**dump) for alias, dump in document.pop("databases").items()}
        return Manifest(**document, databases=dumps)
    except FileNotFoundError:
        raise BackupDamaged(f"{folder} has no {NAME}: it is not a complete backup. Choose another one.") from None
    except OSError as error:
        raise BackupDamaged(f"{folder / NAME} cannot be read ({error.strerror}). Choose another backup.") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BackupDamaged(f"{folder / NAME} is damaged: it is no list of a backup's files. Choose another backup.") from None


def compute_digest(file: Path) -> str:
    """Return the SHA-256 of the file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_dump(folder: Path, dump: Dump) -> None:
    """Raise BackupDamaged if the file of the dump is missing or has changed."""
    file = folder / Path(dump.file).name
    try:
        size = file.stat().st_size
        if size != dump.bytes:
            raise BackupDamaged(f"{file} has {size} bytes, not {dump.bytes}: it is truncated or was replaced. Choose another backup.")
        if compute_digest(file) != dump.sha256:
            raise BackupDamaged(f"{file} is damaged: its SHA-256 differs from the manifest. Choose another backup.")
    except OSError as error:
        raise BackupDamaged(f"{file} cannot be read ({error.strerror}). Choose another backup.") from None
