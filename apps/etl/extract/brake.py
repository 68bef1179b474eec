"""The brake: at most ETL_SOURCE_CONNECTIONS snapshots are open on one source, over all processes and machines. The shop comes first.

All that these share is the server that they read, so the places are user locks there (GET_LOCK), held by the snapshot's own session: a
place is free again as soon as its session ends, also by kill -9. They need no right, and a read-only replica has them, too.
"""

import random
import time
from hashlib import sha256
from typing import Any

import structlog
from django.conf import settings

from apps.etl.interrupts import waiting
from techmarket.diagnosis import diagnosed, place

log = structlog.get_logger()
POLL_S = 0.5  # twenty waiting workers ask for four places 160 times a second
LOG_INTERVAL_S = 60.0


class NoPlace(Exception):
    """All places at a source are taken, and the caller does not want to wait."""


def take_place(connection: Any, alias: str, wait: bool) -> None:
    """Take one of the places at a source for as long as the connection is open. Raises NoPlace where there is none and `wait` is false.

    Whoever needs places at several sources takes them in the order of SNAPSHOT_ORDER, and each once, so that no two wait for each other.
    """
    began = next_log = time.monotonic()
    with waiting(alias) as sleep, diagnosed(alias):
        while not any(get_lock(connection, name) for name in place_names(alias)):
            if not wait:
                raise NoPlace
            if time.monotonic() >= next_log:
                next_log += LOG_INTERVAL_S
                sessions = [session for name in place_names(alias) if (session := query(connection, f"SELECT IS_USED_LOCK('{name}')"))]
                log.info("waiting for a place at a source", source=place(alias), places=settings.ETL_SOURCE_CONNECTIONS, sessions=sessions)
            sleep(POLL_S)
    if next_log > began:
        log.info("took a place at a source", source=place(alias), waited_seconds=round(time.monotonic() - began, 1))


def place_names(alias: str) -> list[str]:
    """Return the names of the locks in random order: those of one database, whatever else the server holds. MySQL allows 64 characters."""
    database = sha256(str(settings.DATABASES[alias]["NAME"]).encode()).hexdigest()[:16]
    names = [f"techmarket_{database}_{number}" for number in range(1, settings.ETL_SOURCE_CONNECTIONS + 1)]
    # In order, every session would first ask for the places that are taken the longest.
    return random.sample(names, len(names))  # nosec B311 # nobody gains by guessing the order


def get_lock(connection: Any, name: str) -> bool:
    return query(connection, f"SELECT GET_LOCK('{name}', 0)") == 1


def query(connection: Any, statement: str) -> int | None:
    cursor = connection.cursor()
    cursor.execute(statement)
    ((value,),) = cursor.fetchall()
    cursor.close()
    return None if value is None else int(value)
