"""Whether a worker's process still exists. On its own machine that is known at once: the kernel frees its lock when it ends.

A lock knows nothing of process ids that come again, nor of containers' own process ids. It counts only under the same kernel and in the
same VAR_DIR; of a process elsewhere only its heartbeats tell.
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from django.conf import settings

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # of the running kernel; the same in all its containers
LOCK_TRIES = 5
LOCK_PAUSE_S = 0.02  # another process holds the lock for microseconds while it looks
MAX_AGE_S = 86_400.0  # after which the file of a process that is gone is deleted
LOCKS: dict[int, int] = {}  # this process's id -> its open file; a forked child has another id, and not its parent's lock


def worker_name(process: int | None = None) -> str:
    """Return the name of this process, or of another one of this machine, in the ledger."""
    return f"{socket.gethostname()}:{process or os.getpid()}"


def announce_process() -> None:
    """Lock this process's file, until it ends. A folder that cannot be written costs only time: heartbeats remain."""
    if os.getpid() in LOCKS:
        return
    with suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        file = os.open(find_file(worker_name()), os.O_RDWR | os.O_CREAT, 0o644)
        LOCKS[os.getpid()] = file
        is_ours = lock(file)
        os.ftruncate(file, 0)  # also where another process has our name, in another container: the file then tells nothing of either
        if is_ours:
            os.write(file, read_boot_id())


def lock(file: int) -> bool:
    """Return False where another process holds the lock."""
    for _ in range(LOCK_TRIES):
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def is_gone(worker: str) -> bool:
    """Return True if the process ran on this machine and has ended. False may also mean that nothing is known."""
    if not worker or worker == worker_name():
        return False
    return is_unlocked(find_file(worker))


def is_unlocked(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            if not read_boot_id() or file.read() != read_boot_id():
                return False
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def delete_old_files() -> None:
    """Delete the files of processes that ended long ago."""
    for path in folder().glob("*"):
        with suppress(OSError):
            # By this machine's clock, which has dated the files.
            if path != find_file(worker_name()) and time.time() - path.stat().st_mtime > MAX_AGE_S and is_unlocked(path):
                path.unlink()


def folder() -> Path:
    return Path(settings.VAR_DIR) / "processes"


def find_file(worker: str) -> Path:
    return folder() / quote(worker, safe=":")


def read_boot_id() -> bytes:
    """Return the id of the running kernel, empty where the system has none."""
    try:
        return BOOT_ID.read_bytes().strip()
    except OSError:
        return b""
