"""How a backup is described: its signature, to whom it is encrypted, and what it leaves out."""

from collections.abc import Iterator
from pathlib import Path

from apps.backups import manifest
from apps.backups.manifest import Manifest, Signature
from techmarket.errors import BackupDamaged
from techmarket.formats import format_count


def describe_manifest(described: Manifest) -> list[str]:
    """Return a line for each of the three."""
    left_empty = [f"{alias}: {', '.join(dump.left_empty)}" for alias, dump in described.databases.items() if dump.left_empty]
    return [
        f"Signature: {described.signature}",
        f"Encryption: {f'to {", ".join(described.recipients)}' if described.is_encrypted else 'none'}",
        f"Left empty: {'; '.join(left_empty) or 'no table'}",
    ]


def describe_folder(folder: Path) -> list[str]:
    """Return the lines of a backup in a list, after reading all of its files. Raises BackupDamaged."""
    described = manifest.read_manifest(folder)
    if described.signature == Signature.FOREIGN:
        raise BackupDamaged(f"{folder.name} is {described.signature}.")
    manifest.check_files(folder, described, list(described.databases))
    size = sum(dump.bytes for dump in described.databases.values())
    return [f"{folder.name}  whole, {len(described.databases)} databases, {format_count(size)} bytes", *describe_manifest(described)]


def describe_backups(backups: list[Path]) -> Iterator[tuple[str, list[str], bool]]:
    """Yield name and lines of each backup, and whether it is whole."""
    for folder in backups:
        try:
            yield folder.name, describe_folder(folder), True
        except BackupDamaged as error:
            yield folder.name, [f"{folder.name}  REFUSED: {error}"], False
