"""How work that waits for a server is stopped from another thread: whoever opens a session says how to interrupt it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import MySQLdb
from django.db import connections

STOPS: list[Callable[[], None]] = []


@contextmanager
def stoppable(stop: Callable[[], None]) -> Iterator[None]:
    """While inside, `interrupt` calls `stop`, from another thread and perhaps more than once."""
    STOPS.append(stop)
    try:
        yield
    finally:
        STOPS.remove(stop)


def interrupt() -> None:
    """Stop what this process waits for. What cannot be reached any more needs no stopping."""
    for stop in STOPS:
        with suppress(Exception):
            stop()


def kill_query(alias: str, thread: int) -> None:
    """End the statement that a MySQL server executes for `thread`, over a connection of its own."""
    connection = MySQLdb.connect(**connections[alias].get_connection_params())
    try:
        connection.cursor().execute(f"KILL QUERY {thread}")
    finally:
        connection.close()
