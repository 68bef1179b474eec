"""The warehouse session that loads: known by name, so that it can be ended from elsewhere."""

import os
import socket
from typing import Any

from django.db import connections

# Process id and start of a PostgreSQL backend: a pid alone may be another session's by now.
SessionName = dict[str, Any]


class Session:
    def __init__(self, cursor: Any):
        self.connection = cursor.db.connection
        self.postgres = cursor.db.vendor == "postgresql"
        self.name: SessionName | None = None
        self.asked = False
        if self.postgres:
            cursor.execute("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            pid, started = cursor.fetchone()
            self.name = {"pid": pid, "backend_start": started}
            # A worker whose network is gone would keep its locks for the two hours that a kernel waits by default.
            for name, seconds in (("idle", 10), ("interval", 5), ("count", 3)):
                cursor.execute("SELECT set_config(%s, %s, true)", [f"tcp_keepalives_{name}", str(seconds)])

    def stop(self) -> None:
        """First by cancelling the statement. A stalled COPY does not hear that (nor any timeout): the second time the session is ended.

        Here before there: behind a network that has gone silent nobody hears the server's end of it.
        """
        if not self.postgres:
            self.connection.interrupt()
        elif not self.asked:
            self.asked = True
            self.connection.cancel_safe(timeout=2)
        else:
            with socket.socket(fileno=os.dup(self.connection.pgconn.socket)) as wire:
                wire.shutdown(socket.SHUT_RDWR)
            end_session(self.name)

    def let_go(self) -> None:
        """Of a connection that is lost, while still inside the transaction: Django would wait for another one to tidy up with."""
        if self.postgres and self.connection.closed:
            connections["dwh"].close()


def end_session(name: SessionName | None) -> None:
    """Ends the backend, and frees its locks, if it still is the one of that name; back when it is gone. Opens a connection of its own."""
    if not name:
        return
    other = connections["dwh"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz",
                [name["pid"], name["backend_start"]],
            )
    finally:
        other.close()
