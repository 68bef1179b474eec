"""Replicas of sources: read from only once they have everything that their source had committed.

The time by which a replica says it is behind will not do: measured on MariaDB 10.11, it was 0 for up to a second while a committed row was
missing, as it is while a replica waits for its network. Transactions are numbered (GTID), so the source is asked for its clock and the
numbers that it has committed, and the replica whether it has these. A snapshot that is taken then holds all that one of the source would
have held at that instant, and has its clock: the high-water mark is never ahead of what the replica has. It needs no right but SELECT.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import connections

from apps.etl.interrupts import waiting
from techmarket.diagnosis import close, database_message, diagnosed, place
from techmarket.errors import EtlError, Misconfigured, ReplicaLags
from techmarket.messages import message

log = structlog.get_logger()
WORTH_LOGGING_S = 1.0


@dataclass(frozen=True)
class Dialect:
    """The setting that gives transactions an id (GTID), and SQL.

    `committed`: the GTIDs of a source. `has_all`: whether a replica has all of them. `applied`: the GTIDs of a replica.
    `unknown`: given these, two texts by which `is_ahead` tells whether the source lacks any.
    """

    setting: str
    committed: str
    has_all: str
    applied: str
    unknown: str
    is_ahead: Callable[[str, str], bool]


def has_more_of_source(excess: str, source: str) -> bool:
    """MySQL: whether the excess has numbers under the UUID of the source. A replica may have written under its own."""
    return source in excess


def has_unlogged(applied: str, logged: str) -> bool:
    """MariaDB: whether the last number of any domain is one that the source has not logged. It may have domains of other sources."""
    last = {(domain, server): number for domain, server, number in split_gtids(logged)}
    domains = {domain for domain, _server in last}
    return any(number > last.get((domain, server), 0) for domain, server, number in split_gtids(applied) if domain in domains)


def split_gtids(text: str) -> list[tuple[int, int, int]]:
    """Return domain, server and number of each: 0-1-7,2-1-9."""
    return [tuple(map(int, gtid.split("-"))) for gtid in text.split(",") if gtid]  # type: ignore[misc]


MYSQL = Dialect(
    "gtid_mode",
    "@@global.gtid_executed",
    "SELECT GTID_SUBSET(%s, @@global.gtid_executed)",
    "SELECT @@global.gtid_executed",
    "SELECT GTID_SUBTRACT(%s, @@global.gtid_executed), @@global.server_uuid",
    has_more_of_source,
)
MARIADB = Dialect(
    "log_bin",
    "@@global.gtid_binlog_pos",
    "SELECT MASTER_GTID_WAIT(%s, 0) = 0",
    "SELECT @@global.gtid_slave_pos",
    "SELECT %s, @@global.gtid_binlog_state",
    has_unlogged,
)
ON = ("ON", 1)


@dataclass(frozen=True)
class Position:
    """What a source had committed at an instant of its clock."""

    clock: datetime
    committed: str
    dialect: Dialect


@dataclass(frozen=True)
class Obstacle:
    """Why a replica is not read: the error once there is no more time, and the seconds from look to look."""

    kind: type[EtlError]
    code: str
    poll_s: float

    def error(self, alias: str, seconds: float) -> EtlError:
        parameters = {"seconds": f"{seconds:.0f}", "source": place(alias)}
        return self.kind(database_message(self.code, settings.REPLICAS[alias], "", **parameters))


LAGS = Obstacle(ReplicaLags, "database.replica_lags", 0.05)
# A replica is ahead for a moment where the source commits only what a replica has (semi-synchronous). Each look is a login at the source.
AHEAD = Obstacle(Misconfigured, "database.replica_ahead", 0.5)


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
    """Wait until the replica of `alias`, whose cursor this is, has what its source has committed by now, and nothing else.

    Returns the source's clock when it was asked, and the seconds that the replica took. After `limit_s` seconds, by default
    ETL_MAX_REPLICA_LAG_SECONDS, raises ReplicaLags, or Misconfigured where the replica is ahead.
    """
    limit_s = settings.ETL_MAX_REPLICA_LAG_SECONDS if limit_s is None else limit_s
    with source_cursor(alias) as source:
        position = read_position(source)
    began, logged = time.monotonic(), False
    with waiting(settings.REPLICAS[alias]) as sleep:
        while obstacle := find_obstacle(alias, cursor, position):
            lag = time.monotonic() - began
            if lag > limit_s:
                raise obstacle.error(alias, limit_s)
            if lag > WORTH_LOGGING_S and not logged:
                logged = True
                log.info("waiting for a replica", replica=place(settings.REPLICAS[alias]), at_most_seconds=limit_s)
            sleep(obstacle.poll_s)
    lag = time.monotonic() - began
    if logged:
        log.info("a replica has caught up", replica=place(settings.REPLICAS[alias]), seconds=round(lag, 1))
    return position.clock, lag


@contextmanager
def source_cursor(alias: str) -> Iterator[Any]:
    """Yield a cursor of the source, whose connection would be idle until the next snapshot and is closed."""
    with diagnosed(alias), connections[alias].cursor() as cursor:
        yield cursor
    close(alias)


def find_obstacle(alias: str, cursor: Any, position: Position) -> Obstacle | None:
    if not has_all(cursor, position):
        return LAGS
    return AHEAD if is_ahead(alias, cursor, position) else None


def has_all(cursor: Any, position: Position) -> bool:
    cursor.execute(position.dialect.has_all, [position.committed])
    ((found,),) = cursor.fetchall()
    return bool(found)


def is_ahead(alias: str, cursor: Any, position: Position) -> bool:
    """Ask the source once more, where the replica has other numbers than the source had."""
    cursor.execute(position.dialect.applied)
    ((found,),) = cursor.fetchall()
    applied = found.decode() if isinstance(found, bytes) else str(found)
    if applied == position.committed:
        return False
    with source_cursor(alias) as source:
        source.execute(position.dialect.unknown, [applied])
        return position.dialect.is_ahead(*source.fetchone())
