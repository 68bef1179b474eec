"""Client programs of the database servers: finding them, running them without a password on the command line, and ending them."""

import os
import re
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

from techmarket.errors import ConnectionLost, Misconfigured, Terminal, Transient

CHUNK = 1 << 18  # bytes
SILENCE_TIMEOUT_S = 600.0  # without a byte of output
ERROR_BYTES_READ = 20_000  # from the beginning, and as many from the end
MYSQL_ERROR = re.compile(r"ERROR \d+ ")  # the client's, at the end
PROGRAM_ERROR = re.compile(r"\S*(dump|restore|mysql|mariadb|psql)\S*: .*(error|couldn't|denied|failed)", re.IGNORECASE)
WARNING = re.compile(r"^\S+: (\[?warning)", re.IGNORECASE)
# What the programs say where the server has gone in the middle: MySQL's numbers, libpq's words (it speaks English here).
GONE_CODES = "(2002|2003|2006|2013|2055|1053|1927)"  # it answered a moment before
LOST = re.compile(
    rf"^ERROR {GONE_CODES} |: (got )?error:? {GONE_CODES}:|\({GONE_CODES}\)$"
    r"|server closed the connection|connection to server was lost|FATAL:  terminating connection|SSL connection has been closed"
    r"|the database system is (shutting|starting|in recovery)",
    re.IGNORECASE,
)
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Client:
    """An installed program and the version that it prints."""

    path: str
    version: str

    @property
    def name(self) -> str:
        return Path(self.path).name


def find_client(place: str, package: str, *names: str) -> Client:
    """Return the first of the programs that is installed. Raises Misconfigured with the name of Debian's package."""
    path = next((path for path in map(shutil.which, names) if path), None)
    if path is None:
        raise Misconfigured(f"{place}: the client program {Path(names[-1]).name} is not installed. Install Debian's package {package}.")
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return Client(path, output.strip().splitlines()[0] if output.strip() else "")


@contextmanager
def run_client(
    place: str, client: Client, arguments: list[str], secrets: Mapping[str, str], feeds: bool = False, source: IO[bytes] | None = None
) -> Iterator[Process]:
    """Run the program; `secrets` are added to its environment, and with `feeds` it reads from a pipe instead of writing to one.

    It reads `source`, a file or a pipe, as its standard input.
    At the end waits for it and raises Terminal or Transient where it failed. An exception inside ends it.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            [client.path, *arguments],
            env=os.environ | {"LC_ALL": "C.UTF-8"} | dict(secrets),
            stdin=subprocess.PIPE if feeds else source or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if feeds else subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C must reach this process alone
        )
        try:
            with suppress(BrokenPipeError):  # it ended before it had read all: the exit code decides
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
            raise make_error(place, client, process.returncode, read_cause(errors))


def make_error(place: str, client: Client, code: int, cause: str) -> Terminal | Transient:
    if code < 0:
        return Transient(f"{place}: {client.name} was killed ({signal.Signals(-code).name}). Run the command again.")
    if LOST.search(cause):
        return ConnectionLost(
            f"{place} closed the connection to {client.name} ({cause}): it was stopped, killed or ran out of memory. "
            "Look into its log and give it more memory if it lacked some, then run the command again."
        )
    return Terminal(f"{place}: {client.name} failed: {cause or f'exit code {code}'}. Fix the cause, then run the command again.")


def read_cause(errors: IO[bytes]) -> str:
    """Return the line with the cause: PostgreSQL's programs print it before the details, MySQL's client after the failed statement.

    The statement, which may be a megabyte of rows, is no cause, whatever words it has.
    """
    lines = [line for line in read_error_lines(errors) if not WARNING.search(line)]
    causes = [line for line in lines if MYSQL_ERROR.match(line)] or [line for line in lines if PROGRAM_ERROR.match(line)]
    return (causes or [line for line in lines if line.strip("-")] or [""])[0].rstrip(".")


def read_error_lines(errors: IO[bytes]) -> list[str]:
    """Return the first and the last lines of what a program wrote to stderr."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(0)
    text = errors.read(ERROR_BYTES_READ)
    if size > ERROR_BYTES_READ:
        errors.seek(max(ERROR_BYTES_READ, size - ERROR_BYTES_READ))
        text += b"\n" + errors.read()
    return [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]


def read_chunks(place: str, process: Process, first_timeout_s: float = SILENCE_TIMEOUT_S) -> Iterator[bytes]:
    """Yield the program's output. Raises Transient where the first or a later chunk takes longer than its timeout."""
    stream = cast(IO[bytes], process.stdout)
    timeout = first_timeout_s
    while True:
        if not select.select([stream], [], [], timeout)[0]:
            raise Transient(f"{place}: no data for {timeout:.0f} s. Check the server, then run the command again.")
        chunk = os.read(stream.fileno(), CHUNK)
        if not chunk:
            return
        yield chunk
        timeout = SILENCE_TIMEOUT_S


def write_chunk(process: Process, chunk: bytes) -> None:
    """Write to a program that was started with `feeds`."""
    cast(IO[bytes], process.stdin).write(chunk)
