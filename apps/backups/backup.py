"""All databases into one folder, or none."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.backups import folders, manifest
from apps.backups.manifest import Dump, Manifest
from apps.backups.stores import Store, store
from techmarket.diagnosis import MIGRATE
from techmarket.errors import NotMigrated
from techmarket.version import code_version

Listener = Callable[[str, int], None]  # an alias, and bytes more of it


def silent(alias: str, count: int) -> None:
    pass


def make(top: Path, listener: Listener = silent) -> tuple[Path, Manifest]:
    """A new backup in `top`: each database as it was at one instant, the control database first.

    A run that ends meanwhile is in the warehouse then and active in the ledger: the reaper finds it published. Raises EtlError.
    """
    began = now()
    stores = {alias: store(alias) for alias in settings.DATABASES}
    programs = {alias: ready(one) for alias, one in stores.items()}
    with folders.new(top) as folder:
        dumps = {alias: dumped(one, programs[alias], folder, listener) for alias, one in stores.items()}
        written = Manifest(began, now(), code_version(), dumps)
        private(folder / manifest.NAME)
        (folder / manifest.NAME).write_text(written.text(), encoding="utf-8")
        return folders.publish(folder), written


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def ready(one: Store) -> str:
    """Before anything is written: every server answers, has tables, and its program is here."""
    if not one.tables():
        raise NotMigrated(f"{one.place} has no tables. {MIGRATE}")
    return one.ready()


def dumped(one: Store, program: str, folder: Path, listener: Listener) -> Dump:
    file = folder / f"{one.alias if one.alias != 'default' else 'control'}.{one.suffix}"
    listener(one.alias, 0)
    tables = one.dump(file, partial(listener, one.alias))
    file.chmod(0o600)
    return Dump(file.name, one.vendor, one.server(), program, file.stat().st_size, manifest.digest(file), tables)


def private(file: Path) -> None:
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
