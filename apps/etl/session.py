"""The warehouse session of a load, identified so that another process can end it."""

import os
import socket
from typing import Any

from django.db import connections

# Process id and start of a PostgreSQL backend: the process id alone may have passed to another session.
SessionId = dict[str, Any]


class Session:
    def __init__(self, cursor: Any):
        self.connection = cursor.db.connection
        self.postgres = cursor.db.vendor == "postgresql"
        self.id: SessionId | None = None
        self.cancel_sent = False
        if self.postgres:
            cursor.execute("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            pid, started = cursor.fetchone()
            self.id = {"pid": pid, "backend_start": started}
            # Without keepalives the session of a worker that lost its network keeps its locks for two hours, the kernel's default.
            for name, seconds in (("idle", 10), ("interval", 5), ("count", 3)):
                cursor.execute("SELECT set_config(%s, %s, false)", [f"tcp_keepalives_{name}", str(seconds)])

    def stop(self) -> None:
        """Cancel the statement; at the second call end the session, since a stalled COPY ignores cancellation and every timeout.

        The local socket is closed first: behind a silent network the server's close never arrives.
        """
        if not self.postgres:
            self.connection.interrupt()
        elif not self.cancel_sent:
            self.cancel_sent = True
            self.connection.cancel_safe(timeout=2)
        else:
            with socket.socket(fileno=os.dup(self.connection.pgconn.socket)) as connection:
                connection.shutdown(socket.SHUT_RDWR)
            end_session(self.id)


def end_session(session: SessionId | None) -> None:
    """Terminate the backend, which frees its locks, if it still is that session, and wait until it is gone. Uses its own connection."""
    if not session or "pid" not in session:
        return
    other = connections["dwh"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz",
                [session["pid"], session["backend_start"]],
            )
    finally:
        other.close()
