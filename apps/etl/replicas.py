"""Replicas of sources: read from only once they have everything that their source had committed.

The time by which a replica says it is behind will not do: measured on MariaDB 10.11, it was 0 for up to a second while a committed row was
missing, as it is while a replica waits for its network. Transactions are numbered (GTID), so the source is asked for its clock and the
numbers that it has committed, and the replica whether it has these. A snapshot that is taken then holds all that one of the source would
have held at that instant, and has its clock: the high-water mark is never ahead of what the replica has. It needs no right but SELECT.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import connections

from apps.etl.interrupts import waiting
from techmarket.diagnosis import close, database_message, diagnosed, place
from techmarket.errors import Misconfigured, ReplicaLags
from techmarket.messages import message

log = structlog.get_logger()
POLL_S = 0.05
WORTH_LOGGING_S = 1.0


@dataclass(frozen=True)
class Dialect:
    """The setting that numbers transactions, the numbers of those that are committed, and whether a server has such numbers."""

    setting: str
    committed: str
    has_all: str


MYSQL = Dialect("gtid_mode", "@@global.gtid_executed", "SELECT GTID_SUBSET(%s, @@global.gtid_executed)")
MARIADB = Dialect("log_bin", "@@global.gtid_binlog_pos", "SELECT MASTER_GTID_WAIT(%s, 0) = 0")
ON = ("ON", 1)


@dataclass(frozen=True)
class Position:
    """What a source had committed at an instant of its clock."""

    clock: datetime
    committed: str
    dialect: Dialect


def read_alias(alias: str) -> str:
    """Return the alias of the database that is read for a source: its replica's, or its own."""
    return str(settings.REPLICAS.get(alias, alias))


def read_position(cursor: Any) -> Position:
    """Ask a source. Raises Misconfigured where it does not number its transactions."""
    alias, dialect = cursor.db.alias, MARIADB if cursor.db.mysql_is_mariadb else MYSQL
    cursor.execute(f"SELECT UTC_TIMESTAMP(6), {dialect.committed}, @@global.{dialect.setting}")
    clock, committed, numbers = cursor.fetchone()
    if numbers not in ON or not committed:
        found = numbers if numbers not in ON else f"ON, but {dialect.committed} empty"
        variable = settings.VARIABLES[settings.REPLICAS[alias]]
        raise Misconfigured(
            message("database.no_gtid", place=place(alias), setting=dialect.setting, found=str(found or "OFF"), variable=variable)
        )
    return Position(clock.replace(tzinfo=UTC), committed, dialect)


def catch_up(alias: str, cursor: Any, limit_s: float | None = None) -> tuple[datetime, float]:
    """Wait until the replica of `alias`, whose cursor this is, has what its source has committed by now.

    Returns the source's clock when it was asked, and the seconds that the replica took. Raises ReplicaLags after `limit_s` seconds, by
    default ETL_MAX_REPLICA_LAG_SECONDS.
    """
    limit_s = settings.ETL_MAX_REPLICA_LAG_SECONDS if limit_s is None else limit_s
    with diagnosed(alias), connections[alias].cursor() as source:
        position = read_position(source)
    close(alias)  # it would be idle until the next snapshot
    began, logged = time.monotonic(), False
    with waiting(settings.REPLICAS[alias]) as sleep:
        while not has_all(cursor, position):
            lag = time.monotonic() - began
            if lag > limit_s:
                raise replica_lags(alias, limit_s)
            if lag > WORTH_LOGGING_S and not logged:
                logged = True
                log.info("waiting for a replica", replica=place(settings.REPLICAS[alias]), at_most_seconds=limit_s)
            sleep(POLL_S)
    lag = time.monotonic() - began
    if logged:
        log.info("a replica has caught up", replica=place(settings.REPLICAS[alias]), seconds=round(lag, 1))
    return position.clock, lag


def has_all(cursor: Any, position: Position) -> bool:
    cursor.execute(position.dialect.has_all, [position.committed])
    ((found,),) = cursor.fetchall()
    return bool(found)


def replica_lags(alias: str, seconds: float) -> ReplicaLags:
    parameters = {"seconds": f"{seconds:.0f}", "source": place(alias)}
    return ReplicaLags(database_message("database.replica_lags", settings.REPLICAS[alias], "", **parameters))
