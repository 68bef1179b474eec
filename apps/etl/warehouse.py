"""Queries of the warehouse from any thread."""

from collections.abc import Callable
from typing import Any

from django.db import connections

from apps.etl.interrupts import interruptible
from techmarket.diagnosis import diagnosed

WAREHOUSE = "dwh"


def in_warehouse[T](query: Callable[..., T], *arguments: Any) -> T:
    """Call a function with a cursor of the warehouse, in any thread; `interrupt` stops it."""
    with diagnosed(WAREHOUSE), connections[WAREHOUSE].cursor() as cursor:
        connection = cursor.db.connection
        with interruptible(connection.interrupt if cursor.db.vendor == "sqlite" else connection.cancel_safe):
            return query(cursor, *arguments)


def in_thread[T](query: Callable[..., T], *arguments: Any) -> T:
    """Do the same in a thread that ends afterwards, and its connection with it."""
    try:
        return in_warehouse(query, *arguments)
    finally:
        connections.close_all()
