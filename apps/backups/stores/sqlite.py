"""SQLite: its online backup, which copies a file as of one instant while other programs write to it."""

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from apps.backups.measure import Measures
from apps.backups.stores.base import ByteCounter, Store, read_only_message
from techmarket.diagnosis import diagnosed
from techmarket.errors import ReadOnly

THROWAWAY_PREFIX = ".verify-"
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
            copy = type(self)(self.alias, str(file))
            copy.empty_tables()
        progress(file.stat().st_size)
        return copy.measure_single_file()

    def empty_tables(self) -> None:
        """Delete the rows that a backup leaves out, and give their space back."""
        with closing(sqlite3.connect(self.settings["NAME"], isolation_level=None)) as connection:
            for table in self.without_rows:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  a name of ours
            if self.without_rows:
                connection.execute("VACUUM")

    def measure_single_file(self) -> Measures:
        """Measure, then remove the files that the session made beside the database (WAL)."""
        measures = self.measure()
        with closing(sqlite3.connect(self.settings["NAME"])) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        return measures

    def load(self, file: Path, progress: ByteCounter, all_rows: bool = True) -> list[str]:
        """Replace every page in one transaction: a program that has the file open sees all of the dump or nothing."""
        with diagnosed(self.alias):
            copy_database(f"{file.absolute().as_uri()}?mode=ro&immutable=1", self.make_uri("mode=rwc"))
        progress(file.stat().st_size)
        return []

    def drop_tables(self) -> None:
        """Do nothing: `load` replaces every page."""

    @contextmanager
    def create_throwaway(self) -> Iterator[Self]:
        top = Path(self.settings["NAME"]).parent
        for left in top.glob(f"{THROWAWAY_PREFIX}*"):
            with lock_folder(left) as is_free:
                if is_free:
                    shutil.rmtree(left, ignore_errors=True)
        with self.make_throwaway_folder(top) as folder, lock_folder(folder):
            yield type(self)(self.alias, str(folder / "throwaway.sqlite3"))

    @contextmanager
    def make_throwaway_folder(self, top: Path) -> Iterator[Path]:
        try:
            folder = tempfile.TemporaryDirectory(dir=top, prefix=THROWAWAY_PREFIX)
        except OSError as error:
            raise ReadOnly(read_only_message(f"{self.place} ({error.strerror})", self.alias)) from error
        with folder as path:
            yield Path(path)


@contextmanager
def lock_folder(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder, which ends with this process; yield False where another process has it, or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def copy_database(source_uri: str, target_uri: str) -> None:
    with (
        closing(sqlite3.connect(source_uri, uri=True, timeout=LOCK_TIMEOUT_S)) as source,
        closing(sqlite3.connect(target_uri, uri=True, timeout=LOCK_TIMEOUT_S)) as target,
    ):
        source.backup(target)
