"""Interrupt work that waits for a server from another thread: whoever opens a session registers how to stop it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.db import connections

from techmarket.diagnosis import database_message
from techmarket.driver_errors import CANCELLED
from techmarket.encryption import connect_mysql

STOPS: list[Callable[[], None]] = []


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Let `interrupt` call `stop` while the block runs, from another thread and perhaps more than once."""
    STOPS.append(stop)
    try:
        yield
    finally:
        STOPS.remove(stop)


def interrupt() -> None:
    """Stop everything that this process waits for. A server that cannot be reached any more needs no stopping."""
    for stop in STOPS:
        with suppress(Exception):
            stop()


@contextmanager
def waiting(alias: str) -> Iterator[Callable[[float], None]]:
    """Yield a sleep that ends at once when `interrupt` is called, and then raises what an interrupted query of this database raises."""
    interrupted = threading.Event()

    def sleep(seconds: float) -> None:
        if interrupted.wait(seconds):
            kind, code = CANCELLED
            raise kind(database_message(code, alias, ""))

    with interruptible(interrupted.set):
        yield sleep


def kill_query(alias: str, thread: int) -> None:
    """End the statement that a MySQL server executes for `thread`, over a connection of its own."""
    connection = connect_mysql(connections[alias])
    try:
        connection.cursor().execute(f"KILL QUERY {thread}")
    finally:
        connection.close()
