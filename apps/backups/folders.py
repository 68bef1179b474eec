"""Where backups are kept: one folder for each, named after its instant; a folder of that form is a whole backup."""

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

STAMP = "%Y-%m-%dT%H-%M-%S"
COMPLETE = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")
PARTIAL = ".partial-"
LOCK = ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
SHOWN = 5


class Busy(Usage):
    """Another backup is being made there. Run it again when it has ended."""


def complete(top: Path) -> list[Path]:
    """The whole backups, the oldest first."""
    return sorted(path for path in top.glob("*") if COMPLETE.fullmatch(path.name) and (path / manifest.NAME).is_file())


def find(top: Path, name: str) -> Path:
    """By its name in `top`, or by its path. Raises Usage, naming those that there are."""
    folder = Path(name) if "/" in name else top / name
    if name and folder.is_dir():
        return folder
    last = ", ".join(path.name for path in reversed(complete(top)[-SHOWN:]))
    raise Usage(f"There is no backup {name!r} in {top}. " + (f"The last ones: {last}." if last else "There is none at all."))


@contextmanager
def alone(top: Path) -> Iterator[None]:
    """Inside, no other backup is made there. What a killed one has left behind is removed."""
    with disk(top):
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(top / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"Another backup is being made in {top}. Run it again when it has ended.") from None
        for left in top.glob(f"{PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(lock)


@contextmanager
def new(top: Path) -> Iterator[Path]:
    """A folder to fill, which becomes a backup if all went well, and else is gone. `named` says what it is called then."""
    folder = top / f"{PARTIAL}{os.getpid()}"
    try:
        with disk(top):
            folder.mkdir(mode=0o700)
            yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def publish(folder: Path) -> Path:
    """From here on it is a backup: all of it is on the disk before its name is."""
    for path in [*folder.iterdir(), folder]:
        sync(path)
    while (named := folder.parent / datetime.now(UTC).strftime(STAMP)).exists():
        time.sleep(0.2)
    folder.rename(named)
    sync(folder.parent)
    return named


def sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def prune(top: Path, keep: int) -> list[str]:
    """Remove whole backups of ours, the oldest, until `keep` are left. What is in the way of it stays."""
    removed = []
    for folder in complete(top)[:-keep]:
        with suppress(OSError, BackupDamaged):
            manifest.read(folder)
            going = folder.rename(top / f"{PARTIAL}{folder.name}")  # half removed it must not look whole
            removed.append(folder.name)
            shutil.rmtree(going, ignore_errors=True)
    return removed


@contextmanager
def disk(top: Path) -> Iterator[None]:
    """Inside, what a disk refuses comes out as one of our errors."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace(f"{top}: the disk is full; no backup was made. Free space there, then run it again.") from error
        raise Misconfigured(f"{top} cannot be written ({error.strerror}). Correct BACKUP_DIR, or its rights.") from error
