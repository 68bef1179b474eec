"""SQLite: its online backup, which copies a file as of one instant while other programs write to it."""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from apps.backups.measure import Measures
from apps.backups.stores.base import ByteCounter, Store
from techmarket.diagnosis import diagnosed

LOCK_TIMEOUT_S = 30.0  # how long to wait for a program that is writing


class SQLite(Store):
    suffix = "sqlite3"
    vendor = "sqlite"

    def find_dump_program(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def make_uri(self, options: str) -> str:
        return f"{Path(self.settings['NAME']).absolute().as_uri()}?{options}"

    def dump(self, file: Path, progress: ByteCounter) -> Measures:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with diagnosed(self.alias):
            try:
                copy_database(self.make_uri("mode=ro"), file.absolute().as_uri())
            except sqlite3.OperationalError as error:
                if "full" in str(error):  # the disk of the backup, not that of the database
                    raise OSError(errno.ENOSPC, str(error)) from error
                raise
        progress(file.stat().st_size)
        return type(self)(self.alias, str(file)).measure_single_file()

    def measure_single_file(self) -> Measures:
        """Measure, then remove the files that the session made beside the database (WAL)."""
        measures = self.measure()
        with closing(sqlite3.connect(self.settings["NAME"])) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        return measures

    def load(self, file: Path, progress: ByteCounter) -> None:
        """Replace every page in one transaction: a program that has the file open sees all of the dump or nothing."""
        with diagnosed(self.alias):
            copy_database(f"{file.absolute().as_uri()}?mode=ro&immutable=1", self.make_uri("mode=rwc"))
        progress(file.stat().st_size)

    def drop_tables(self) -> None:
        """Do nothing: `load` replaces every page."""

    @contextmanager
    def create_throwaway(self) -> Iterator[Self]:
        with tempfile.TemporaryDirectory(dir=Path(self.settings["NAME"]).parent, prefix=".verify-") as folder:
            yield type(self)(self.alias, str(Path(folder) / "throwaway.sqlite3"))


def copy_database(source_uri: str, target_uri: str) -> None:
    with (
        closing(sqlite3.connect(source_uri, uri=True, timeout=LOCK_TIMEOUT_S)) as source,
        closing(sqlite3.connect(target_uri, uri=True, timeout=LOCK_TIMEOUT_S)) as target,
    ):
        source.backup(target)
