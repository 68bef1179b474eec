"""Making a backup: all databases into one folder, or none."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.backups import folders, manifest
from apps.backups.dump_file import create_dump_file
from apps.backups.encryption import SUFFIX
from apps.backups.manifest import Dump, Manifest, Signature
from apps.backups.stores import Store, get_store
from techmarket.diagnosis import MIGRATE
from techmarket.errors import NotMigrated
from techmarket.version import code_version

Progress = Callable[[str, int], None]  # called with an alias and the number of bytes since the last call


def ignore_progress(alias: str, count: int) -> None:
    pass


def make_backup(top: Path, progress: Progress = ignore_progress) -> tuple[Path, Manifest, list[str]]:
    """Make a backup in `top`, each database as of one instant. Return its folder, its manifest and sentences about what it lacks.

    Raises EtlError.

    The control database comes first: a run that ends meanwhile is published in the warehouse and active in the ledger, which the
    reaper resolves after a restore; the other way round the ledger would name rows that the warehouse lacks.
    """
    began = format_now()
    stores = {alias: get_store(alias) for alias in settings.PRIMARIES}
    programs = {alias: check_store(store) for alias, store in stores.items()}
    with folders.create_partial_folder(top) as folder:
        dumps = {alias: dump_store(store, programs[alias], folder, progress) for alias, store in stores.items()}
        written = Manifest(began, format_now(), code_version(), dumps, settings.BACKUP_RECIPIENT, signature=Signature.VALID)
        manifest.write_manifest(folder, written)
        return folders.publish_folder(folder), written, [note for store in stores.values() for note in store.notes]


def format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_store(store: Store) -> str:
    """Check, before anything is written, that the server answers and has tables; return the program that will dump it."""
    if not store.list_tables():
        raise NotMigrated(f"{store.place} has no tables. {MIGRATE}")
    return store.find_dump_program()


def dump_store(store: Store, program: str, folder: Path, progress: Progress) -> Dump:
    recipients = settings.BACKUP_RECIPIENT
    file = folder / f"{name_database(store.alias)}.{store.suffix}{SUFFIX if recipients else ''}"
    progress(store.alias, 0)
    with create_dump_file(file, recipients) as out:
        tables = store.dump(out, partial(progress, store.alias))
    left_empty = [table for table in store.without_rows if table in tables]
    digest = manifest.compute_digest(file)
    return Dump(file.name, store.vendor, store.read_server_version(), program, file.stat().st_size, digest, tables, left_empty)


def name_database(alias: str) -> str:
    return "control" if alias == "default" else alias
