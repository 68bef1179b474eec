"""manifest.json: what a backup contains, signed, and the check that its files are unchanged."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from apps.backups import signature
from apps.backups.dump_file import create_private_file
from apps.backups.encryption import Identities, decrypt_text, encrypt_text
from apps.backups.measure import Measures
from techmarket.errors import BackupDamaged

NAME = "manifest.json"
FORMAT = 2
UNSIGNED_FORMAT = 1  # of version 0.1.0, which neither signed nor encrypted
FILES_SHOWN = 3


class Signature(StrEnum):
    """What a manifest's signature says. The values are for people and for the audit log."""

    VALID = "signed"
    FOREIGN = "signed by another SECRET_KEY, or changed"
    MISSING = "not signed"


@dataclass(frozen=True)
class Dump:
    """The dump of one database. `bytes` and `sha256` are those of the file; of the tables in `left_empty` it has no rows."""

    file: str
    vendor: str
    server: str
    program: str
    bytes: int
    sha256: str
    tables: Measures
    left_empty: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Manifest:
    """A backup. `began` and `ended` are UTC in ISO 8601, `code` is the commit, `databases` are by alias, `recipients` are public keys.

    The measures of tables tell how much a shop sells: in an encrypted backup `measures` holds them, encrypted, and a dump's `tables` are
    empty until `open_measures`.
    """

    began: str
    ended: str
    code: str
    databases: dict[str, Dump] = field(default_factory=dict)
    recipients: list[str] = field(default_factory=list)
    measures: str = ""
    signature: Signature = Signature.MISSING

    @property
    def is_encrypted(self) -> bool:
        return bool(self.recipients)

    def to_json(self) -> str:
        """Return the document with its signature, and the measures encrypted where the backup is."""
        document = {"format": FORMAT} | asdict(self)
        del document["signature"]
        if self.is_encrypted:
            measures = {alias: dump.pop("tables") for alias, dump in document["databases"].items()}
            document["databases"] = {alias: dump | {"tables": {}} for alias, dump in document["databases"].items()}
            document["measures"] = encrypt_text(json.dumps(measures), self.recipients)
        document["signature"] = signature.compute_signatures(document)[0]
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    def select(self, aliases: Iterable[str]) -> "Manifest":
        """Return the manifest of these databases alone."""
        return replace(self, databases={alias: dump for alias, dump in self.databases.items() if alias in set(aliases)})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with create_private_file(folder / NAME) as file:
        file.write(manifest.to_json().encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest. Raises BackupDamaged where it is missing, invalid or of another version."""
    try:
        document: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        signed_by = read_signature(document)
        if document.pop("format") not in (FORMAT, UNSIGNED_FORMAT):
            raise BackupDamaged(f"{folder / NAME} was written by another version of TechMarket. Restore it with that version.")
        dumps = {alias: read_dump(dump) for alias, dump in document.pop("databases").items()}
        return check_texts(Manifest(**document, databases=dumps, signature=signed_by))
    except FileNotFoundError:
        raise BackupDamaged(f"{folder} has no {NAME}: it is not a complete backup. Choose another one.") from None
    except OSError as error:
        raise BackupDamaged(f"{folder / NAME} cannot be read ({error.strerror}). Choose another backup.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise damaged_manifest(folder) from None


def check_texts(manifest: Manifest) -> Manifest:
    """Return the manifest. Raises TypeError or ValueError as `require_texts` does: it may come from anybody."""
    require_texts(manifest.began, manifest.ended, manifest.code, *manifest.measures.splitlines(), *manifest.recipients, *manifest.databases)
    return manifest


def read_signature(document: dict[str, Any]) -> Signature:
    """Take the signature out of the document and check it."""
    if "signature" not in document:
        return Signature.MISSING
    return Signature.VALID if signature.is_signed(document, document.pop("signature")) else Signature.FOREIGN


def damaged_manifest(folder: Path) -> BackupDamaged:
    return BackupDamaged(f"{folder / NAME} is damaged: it is no list of a backup's files. Choose another backup.")


def open_measures(folder: Path, manifest: Manifest, identities: Identities) -> Manifest:
    """Return the manifest with the measures of its tables. Raises WrongKey, or BackupDamaged."""
    if not manifest.is_encrypted:
        return manifest
    try:
        measures = json.loads(decrypt_text(manifest.measures, identities))
        databases = {alias: replace(dump, tables=measures[alias]) for alias, dump in manifest.databases.items()}
    except (ValueError, KeyError):
        raise damaged_manifest(folder) from None
    return replace(manifest, databases=databases)


def read_dump(values: dict[str, Any]) -> Dump:
    """Return the dump. Raises TypeError, ValueError or AttributeError where a value is not of its kind."""
    dump = Dump(**values)
    require_texts(dump.file, dump.vendor, dump.server, dump.program, dump.sha256, *dump.tables, *dump.left_empty)
    if not all(isinstance(number, int) for number in (dump.bytes, *(measure.get("rows") for measure in dump.tables.values()))):
        raise TypeError
    return dump


def require_texts(*values: object) -> None:
    """Raise TypeError where one is no text, and ValueError where a terminal would not show it as it is."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError
    if not all(str(value).isprintable() for value in values):
        raise ValueError


def compute_digest(file: Path) -> str:
    """Return the SHA-256 of the file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_files(folder: Path, manifest: Manifest, aliases: Sequence[str]) -> None:
    """Raise BackupDamaged if a file of these databases is missing or has changed, or if there is one that the manifest does not list."""
    listed = {NAME, *(find_file(folder, dump).name for dump in manifest.databases.values())}
    if added := sorted({path.name for path in folder.iterdir()} - listed):
        raise BackupDamaged(f"{folder} has files that its manifest does not list: {', '.join(added[:FILES_SHOWN])}. Remove what was added.")
    for alias in aliases:
        check_dump(folder, manifest.databases[alias])


def find_file(folder: Path, dump: Dump) -> Path:
    """Return the file of a dump, which is in the folder itself, whatever the manifest says."""
    return folder / Path(dump.file).name


def check_dump(folder: Path, dump: Dump) -> None:
    """Raise BackupDamaged if the file of the dump is missing or has changed."""
    file = find_file(folder, dump)
    try:
        size = file.stat().st_size
        if size != dump.bytes:
            raise BackupDamaged(f"{file} has {size} bytes, not {dump.bytes}: it is truncated or was replaced. Choose another backup.")
        if compute_digest(file) != dump.sha256:
            raise BackupDamaged(f"{file} is damaged: its SHA-256 differs from the manifest. Choose another backup.")
    except OSError as error:
        raise BackupDamaged(f"{file} cannot be read ({error.strerror}). Choose another backup.") from None
