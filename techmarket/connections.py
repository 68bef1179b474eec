"""Connections of this thread that a server, a firewall or a timeout may have closed while nobody looked."""

from django.db import InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

LOST = (OperationalError, InterfaceError)  # what a driver raises on a connection that is gone; a DatabaseError need not be one


def open_connections() -> list[BaseDatabaseWrapper]:
    """Return the open ones of every alias that are in no transaction: closing those would hide what they have not committed."""
    return [each for each in connections.all(initialized_only=True) if each.connection is not None and not each.in_atomic_block]


def close_connections() -> None:
    """Close them all, dead or not: between two attempts and between two runs. The next use of each opens a new one."""
    for connection in open_connections():
        connection.close()


def close_dead_connections() -> None:
    """Ask each, which takes a tenth of a millisecond, and close those that do not answer: where they may have been idle for long."""
    for connection in open_connections():
        if not connection.is_usable():
            connection.close()
