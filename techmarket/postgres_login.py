"""Ask a PostgreSQL server why it refuses a login.

psycopg passes libpq's text alone for what failed before a session began, in the server's language. libpq can give the SQLSTATE in its
place, if it is asked to between the start of a connection and the server's answer: so the login is tried once more, that way.
"""

import ctypes
import re
import select
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from psycopg import pq
from psycopg.conninfo import make_conninfo

LOGIN_TIMEOUT_S = 5.0
SQLSTATE_ALONE = 3  # libpq's PQERRORS_SQLSTATE: "FATAL:  28P01"
SQLSTATE = re.compile(rb":  ([0-9A-Z]{5})\s*\Z")


class Refusal(NamedTuple):
    """How far a login came. `sqlstate` is empty where the server has not named one."""

    sqlstate: str
    reached: pq.ConnStatus  # the last state before the failure; OK where the login succeeds now
    needs_password: bool
    sslmode: str
    is_socket: bool  # of this machine, named by its folder


def ask_refusal(failed: pq.abc.PGconn) -> Refusal:
    """Log in again as the failed connection did, for at most LOGIN_TIMEOUT_S."""
    options: dict[str, Any] = {each.keyword.decode(): each.val.decode() for each in failed.info if each.val is not None}
    connection = pq.PGconn.connect_start(make_conninfo("", **options).encode())
    try:
        reached = follow_login(connection)
        found = SQLSTATE.search(connection.error_message)
        return Refusal(
            found[1].decode() if found else "",
            reached,
            connection.needs_password,
            options.get("sslmode", ""),
            options.get("host", "").startswith("/"),
        )
    finally:
        connection.finish()


def follow_login(connection: pq.abc.PGconn) -> pq.ConnStatus:
    """Drive a login that has begun to its end; return the last state that was not BAD."""
    deadline = time.monotonic() + LOGIN_TIMEOUT_S
    reached = pq.ConnStatus.BAD
    if connection.status != pq.ConnStatus.BAD and (set_verbosity := load_set_verbosity()):
        set_verbosity(connection.pgconn_ptr, SQLSTATE_ALONE)  # type: ignore[attr-defined]
    while connection.status not in (pq.ConnStatus.BAD, pq.ConnStatus.OK) and time.monotonic() < deadline:
        reached = pq.ConnStatus(connection.status)
        polled = connection.connect_poll()
        if connection.status in (pq.ConnStatus.BAD, pq.ConnStatus.OK):
            break
        reached = pq.ConnStatus(connection.status)
        wait_for_socket(connection.socket, polled, deadline - time.monotonic())
    return pq.ConnStatus.OK if connection.status == pq.ConnStatus.OK else reached


def wait_for_socket(socket: int, polled: int, seconds: float) -> None:
    events = select.POLLIN if polled == pq.PollingStatus.READING else select.POLLOUT
    poller = select.poll()
    poller.register(socket, events)
    poller.poll(max(0.0, seconds) * 1000)


@cache
def load_set_verbosity() -> Callable[[int | None, int], int] | None:
    """Return libpq's PQsetErrorVerbosity, which psycopg does not wrap, from the very library that psycopg uses; None where it is hidden."""
    module = sys.modules[pq.PGconn.__module__]
    try:
        # A symbol of a library that psycopg's own compiled module is linked with is found through that module.
        library = module.impl.pq if pq.__impl__ == "python" else ctypes.CDLL(str(module.__file__))
        function = library.PQsetErrorVerbosity
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
    return function
