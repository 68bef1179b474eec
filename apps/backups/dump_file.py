"""The file of a dump, written and read as a stream of plain bytes, encrypted or not on the disk."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from apps.backups.encryption import Identities, decrypt_file, encrypt_into


def create_private_file(path: Path) -> IO[bytes]:
    """Create a file that its owner alone can read."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


@contextmanager
def create_dump_file(path: Path, recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    """Create the file and yield a stream to write plain bytes into; with recipients no other than encrypted ones reach the disk."""
    with create_private_file(path) as file:
        if not recipients:
            yield file
            return
        with encrypt_into(file, recipients) as stream:
            yield stream


@dataclass(frozen=True)
class DumpFile:
    """A dump in a backup. `identities`: the private keys to read it with, none where it is not encrypted."""

    path: Path
    identities: Identities = ()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Yield a stream of the plain bytes. Its descriptor has not been read from: a program may have it as standard input."""
        if not self.identities:
            with self.path.open("rb") as file:
                yield file
            return
        with decrypt_file(self.path, self.identities) as pipe:
            yield pipe
