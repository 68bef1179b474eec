"""SQLite: its online backup, which copies a file as of one instant while other programs write to it."""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Self

from apps.backups.clients import CHUNK
from apps.backups.dump_file import DumpFile
from apps.backups.measure import Measures
from apps.backups.stores.base import ByteCounter, Store, read_only_message
from techmarket.diagnosis import diagnosed
from techmarket.errors import Misconfigured, NoSpace, ReadOnly

THROWAWAY_PREFIX = ".verify-"
LOCK_TIMEOUT_S = 30.0  # how long to wait for a program that is writing


class SQLite(Store):
    suffix = "sqlite3"
    vendor = "sqlite"

    def find_dump_program(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def make_uri(self, options: str) -> str:
        return f"{Path(self.settings['NAME']).absolute().as_uri()}?{options}"

    def dump(self, out: IO[bytes], progress: ByteCounter) -> Measures:
        """Copy the file beside itself first: there alone may rows stand in plain text that the backup leaves out, or encrypts."""
        try:
            with self.create_copy() as copy:
                with diagnosed(self.alias):
                    copy_database(self.make_uri("mode=ro"), copy.make_uri("mode=rwc"))
                    copy.empty_tables()
                measures = copy.measure_single_file()
                with Path(copy.settings["NAME"]).open("rb") as file:
                    copy_bytes(file, out, progress)
                return measures
        except CopyRefused as error:
            raise Misconfigured(
                f"{self.place}: no copy of it can be made beside it ({error}). Correct the rights of its folder."
            ) from error

    def empty_tables(self) -> None:
        """Delete the rows that a backup leaves out, and give their space back."""
        with closing(sqlite3.connect(self.settings["NAME"], isolation_level=None)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in tables.intersection(self.without_rows):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  a name of ours
            if self.without_rows:
                connection.execute("VACUUM")

    def measure_single_file(self) -> Measures:
        """Measure, then remove the files that the session made beside the database (WAL)."""
        measures = self.measure()
        with closing(sqlite3.connect(self.settings["NAME"])) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        return measures

    def load(self, file: DumpFile, progress: ByteCounter, all_rows: bool = True) -> list[str]:
        """Replace every page in one transaction: a program that has the file open sees all of the dump or nothing."""
        with self.create_throwaway() as copy:
            try:
                with file.open() as stream, Path(copy.settings["NAME"]).open("wb") as plain:
                    copy_bytes(stream, plain, progress)
            except OSError as error:
                problem = f"the dump cannot be copied beside it ({error.strerror or error}); nothing was restored"
                raise NoSpace(f"{self.place}: {problem}. Free space there, then run the command again.") from error
            with diagnosed(self.alias):
                copy_database(copy.make_uri("mode=ro&immutable=1"), self.make_uri("mode=rwc"))
        return []

    def drop_tables(self) -> None:
        """Do nothing: `load` replaces every page."""

    @contextmanager
    def create_throwaway(self) -> Iterator[Self]:
        try:
            with self.create_copy() as copy:
                yield copy
        except CopyRefused as error:
            raise ReadOnly(read_only_message(f"{self.place} ({error})", self.alias)) from error

    @contextmanager
    def create_copy(self) -> Iterator[Self]:
        """Name a file beside the database, in a folder of its owner alone that is removed at the end. Raises CopyRefused."""
        top = Path(self.settings["NAME"]).parent
        for left in top.glob(f"{THROWAWAY_PREFIX}*"):
            with lock_folder(left) as is_free:
                if is_free:
                    shutil.rmtree(left, ignore_errors=True)
        try:
            made = tempfile.TemporaryDirectory(dir=top, prefix=THROWAWAY_PREFIX)
        except OSError as error:
            raise CopyRefused(error.strerror) from error
        with made as folder, lock_folder(Path(folder)):
            yield type(self)(self.alias, str(Path(folder) / "throwaway.sqlite3"))


class CopyRefused(Exception):
    """No folder can be made beside the database."""


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


def copy_bytes(source: IO[bytes], target: IO[bytes], progress: ByteCounter) -> None:
    while chunk := source.read(CHUNK):
        target.write(chunk)
        progress(len(chunk))
