"""The folders of backups, one for each, named after its time in UTC; a folder under such a name is a complete backup."""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from apps.backups import manifest
from techmarket.errors import BackupDamaged, Misconfigured, NoSpace, Usage

NAME_FORMAT = "%Y-%m-%dT%H-%M-%S"
NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")
PARTIAL_PREFIX = ".partial-"
LOCK = ".lock"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NAMES_SHOWN = 5


class BackupInProgress(Usage):
    """Another backup is being made there. Run the command again when it has ended."""


def list_folders(top: Path) -> list[Path]:
    """Return the folders under a name of a backup, oldest first."""
    return sorted(path for path in top.glob("*") if NAME.fullmatch(path.name) and path.is_dir())


def list_backups(top: Path) -> list[Path]:
    """Return the complete backups, oldest first."""
    return [path for path in list_folders(top) if (path / manifest.NAME).is_file()]


def find_backup(top: Path, name: str) -> Path:
    """Return a backup by its name in `top` or by its path. Raises Usage with the names of the latest ones."""
    folder = Path(name) if "/" in name else top / name
    with suppress(OSError):  # of a name that no file system takes
        if name and folder.is_dir():
            return folder
    latest = ", ".join(path.name for path in reversed(list_backups(top)[-NAMES_SHOWN:]))
    raise Usage(f"No backup {name!r} in {top}. " + (f"The latest: {latest}." if latest else "There are no backups."))


@contextmanager
def lock_folder(top: Path) -> Iterator[None]:
    """Create the folder, keep other backups out of it, and remove what killed ones have left. Raises BackupInProgress."""
    with translate_disk_errors(top):
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(top / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupInProgress(f"Another backup is being made in {top}. Run the command again when it has ended.") from None
        for leftover in top.glob(f"{PARTIAL_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(lock)


@contextmanager
def create_partial_folder(top: Path) -> Iterator[Path]:
    """Create a folder for `publish_folder` to rename at the end; remove it where anything fails before that."""
    folder = top / f"{PARTIAL_PREFIX}{os.getpid()}"
    try:
        with translate_disk_errors(top):
            folder.mkdir(mode=0o700)
            yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def publish_folder(folder: Path) -> Path:
    """Rename a finished folder to the name of a backup, after all of it has reached the disk, and return its new path."""
    for path in [*folder.iterdir(), folder]:
        sync_to_disk(path)
    while (target := folder.parent / datetime.now(UTC).strftime(NAME_FORMAT)).exists():
        time.sleep(0.2)
    folder.rename(target)
    sync_to_disk(folder.parent)
    return target


def sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_oldest(top: Path, keep: int) -> list[str]:
    """Remove the oldest backups until `keep` are left and return their names; keep what has no valid manifest or cannot be removed."""
    removed, now = [], datetime.now(UTC).strftime(NAME_FORMAT)
    # A name in the future was given by a wrong clock: that backup is older than any that has been made since.
    oldest_first = sorted(list_backups(top), key=lambda folder: (folder.name <= now, folder.name))
    for folder in oldest_first[:-keep]:
        with suppress(OSError, BackupDamaged):
            manifest.read_manifest(folder)
            partial = folder.rename(top / f"{PARTIAL_PREFIX}{folder.name}")  # a half removed backup must not look complete
            removed.append(folder.name)
            shutil.rmtree(partial, ignore_errors=True)
    return removed


@contextmanager
def translate_disk_errors(top: Path) -> Iterator[None]:
    """Raise NoSpace or Misconfigured for an OSError inside."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            raise NoSpace(f"{top}: the disk is full; no backup was made. Free space there, then run the command again.") from error
        raise Misconfigured(
            f"{top} cannot be written ({error.strerror}). Choose another folder (BACKUP_DIR or --to), or correct its rights."
        ) from error
