"""SQLite: its online backup, which takes one instant of a file that others are writing."""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from apps.backups.measure import Measures
from apps.backups.stores.base import Store, Told
from techmarket.diagnosis import diagnosed

WAIT = 30.0  # seconds for a program that is writing


class SQLite(Store):
    suffix = "sqlite3"
    vendor = "sqlite"

    def ready(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def uri(self, options: str) -> str:
        return f"{Path(self.settings['NAME']).absolute().as_uri()}?{options}"

    def dump(self, file: Path, told: Told) -> Measures:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with diagnosed(self.alias):
            try:
                copy(self.uri("mode=ro"), file.absolute().as_uri())
            except sqlite3.OperationalError as error:
                if "full" in str(error):  # the backup's disk, not the database's
                    raise OSError(errno.ENOSPC, str(error)) from error
                raise
        told(file.stat().st_size)
        return type(self)(self.alias, str(file)).measured_alone()

    def measured_alone(self) -> Measures:
        """Without the files beside it that a session of ours makes (WAL)."""
        measures = self.measure()
        with closing(sqlite3.connect(self.settings["NAME"])) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        return measures

    def load(self, file: Path, told: Told) -> None:
        """Page by page over what is there, in one transaction: another program that has the file open sees all of it or nothing."""
        with diagnosed(self.alias):
            copy(f"{file.absolute().as_uri()}?mode=ro&immutable=1", self.uri("mode=rwc"))
        told(file.stat().st_size)

    def clear(self) -> None:
        """Nothing to do: loading replaces every page."""

    @contextmanager
    def another(self) -> Iterator[Self]:
        with tempfile.TemporaryDirectory(dir=Path(self.settings["NAME"]).parent, prefix=".verify-") as folder:
            yield type(self)(self.alias, str(Path(folder) / "throwaway.sqlite3"))


def copy(old: str, new: str) -> None:
    with closing(sqlite3.connect(old, uri=True, timeout=WAIT)) as source, closing(sqlite3.connect(new, uri=True, timeout=WAIT)) as target:
        source.backup(target)
