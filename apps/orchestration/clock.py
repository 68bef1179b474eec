"""The one clock: the control database's. Every decision about an instant that the ledger stores asks it, never the process's own."""

from datetime import UTC, datetime, timedelta

from django.db import connections

from techmarket.diagnosis import diagnosed

SQL = {
    "postgresql": "SELECT clock_timestamp()",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
}
MAX_SKEW = timedelta(seconds=5)  # NTP holds clocks within milliseconds; a busy machine may answer seconds late


def process_now() -> datetime:
    """Return the time of this machine, in UTC: only to compare it with another clock, or with what the same machine has written."""
    return datetime.now(UTC)


def now() -> datetime:
    """Return the control database's time, in UTC."""
    return read_clock("default")


def read_clock(alias: str) -> datetime:
    """Return the time of a database's server, in UTC. An SQLite file has the clock of the process."""
    connection = connections[alias]
    with diagnosed(alias), connection.cursor() as cursor:
        cursor.execute(SQL[connection.vendor])
        (value,) = cursor.fetchone()
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def own_skew() -> timedelta:
    """Return how far this machine's clock is ahead of the control database's; negative where it is behind."""
    with diagnosed("default"):
        connections["default"].ensure_connection()  # whose time would count as part of the answer's way
    before = process_now()
    instant = now()
    return before + (process_now() - before) / 2 - instant


def skew_of(alias: str) -> timedelta:
    """Return how far the clock of a database's server is ahead of the control database's. Raises EtlError."""
    before = now()
    instant = read_clock(alias)
    return instant - (before + (now() - before) / 2)
