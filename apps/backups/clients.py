"""The servers' own programs: found, started with no password on the command line, and ended with us."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from techmarket.errors import Misconfigured, Terminal, Transient

CHUNK = 1 << 18
SILENCE = 600.0  # seconds without a byte after which a dump is given up
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Client:
    path: str
    version: str

    @property
    def name(self) -> str:
        return Path(self.path).name


def find(place: str, package: str, *names: str) -> Client:
    """The first of `names` that is here. Raises Misconfigured, naming Debian's package."""
    path = next((path for path in map(shutil.which, names) if path), None)
    if path is None:
        raise Misconfigured(f"{place}: its program {Path(names[-1]).name} is not installed here. Install Debian's package {package}.")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return Client(path, said.strip().splitlines()[0] if said.strip() else "")


@contextmanager
def started(place: str, client: Client, arguments: list[str], secrets: Mapping[str, str], fed: bool = False) -> Iterator[Process]:
    """The program at work; `secrets` are variables of its environment, `fed` gives it a pipe to read from.

    On the way out it must have succeeded; else Terminal or Transient says what it said. What interrupts us ends it.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            [client.path, *arguments],
            env=os.environ | {"LC_ALL": "C.UTF-8"} | dict(secrets),
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if fed else subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C at the terminal is for us to act on
        )
        try:
            with suppress(BrokenPipeError):  # it ended before it had read all: its exit code tells
                yield process
                if process.stdin:
                    process.stdin.close()
            process.wait()
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    if stream:
                        stream.close()
        if process.returncode:
            raise failure(place, client, process.returncode, last_line(errors))


def failure(place: str, client: Client, code: int, said: str) -> Terminal | Transient:
    if code < 0:
        return Transient(f"{place}: {client.name} was killed ({signal.Signals(-code).name}). Run it again.")
    return Terminal(f"{place}: {client.name} failed: {said or f'exit code {code}'}. See to it there, then run it again.")


def last_line(errors: IO[bytes]) -> str:
    """PostgreSQL's programs give the cause before the details."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read(20_000).decode(errors="replace").splitlines() if line.strip()]
    causes = [line for line in lines if "error" in line.lower()]
    return (causes or lines or [""])[0].rstrip(".")


def chunks(place: str, process: Process, patience: float = SILENCE) -> Iterator[bytes]:
    """What the program writes. Raises Transient when it falls silent; the first word must come within `patience` seconds."""
    stream = cast(IO[bytes], process.stdout)
    while True:
        if not select.select([stream], [], [], patience)[0]:
            raise Transient(f"{place}: nothing came for {patience:.0f} s. Look at the server, then run it again.")
        chunk = os.read(stream.fileno(), CHUNK)
        if not chunk:
            return
        yield chunk
        patience = SILENCE


def feed(process: Process, chunk: bytes) -> None:
    """Into a program that was started `fed`."""
    cast(IO[bytes], process.stdin).write(chunk)
