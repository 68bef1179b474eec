"""Whether every part of TechMarket answers: six databases, the broker, workers and beat. Each is asked at the same time, and briefly."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Max
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.etl.preflight import check_source
from apps.etl.tables import SOURCES
from techmarket.celery import app
from techmarket.diagnosis import MIGRATE, diagnosed, place, server
from techmarket.errors import AccessDenied, EtlError, NotMigrated, ReadOnly, Unreachable
from techmarket.migrations import pending

PATIENCE = 5  # seconds for one step of one part
GIVEN_UP = 12.0  # seconds after which a part is taken for dead, whatever it is doing
ROLL_CALL = 1.5  # seconds in which workers answer
# Beat writes down every three minutes what it has sent; a file in its own VAR_DIR is fresher, where that is ours too.
BEAT_SILENT = timedelta(minutes=5)
START = "Start one: `make run`, or `celery -A techmarket {part}`."
WRITES = {
    "mysql": (
        "SELECT NOT @@global.read_only AND EXISTS (SELECT 1 FROM ("
        "SELECT grantee, privilege_type FROM information_schema.user_privileges UNION ALL "
        "SELECT grantee, privilege_type FROM information_schema.schema_privileges WHERE DATABASE() LIKE table_schema UNION ALL "
        "SELECT grantee, privilege_type FROM information_schema.table_privileges WHERE table_schema = DATABASE()"
        ") AS rights WHERE privilege_type = 'INSERT' AND grantee = "
        "CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), ''''))"
    ),
    "postgresql": (
        "SELECT current_setting('transaction_read_only') = 'off' AND COALESCE(bool_and(has_table_privilege(oid, 'INSERT')), "
        "has_schema_privilege(current_schema(), 'CREATE')) FROM pg_class "
        "WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace"
    ),
}


@dataclass
class Answer:
    """What one part said. `latency_ms`: of one question on an open connection. `trouble`: what, why and the next step, or nothing."""

    name: str
    place: str = ""
    version: str = ""
    latency_ms: float | None = None
    migrated: bool | None = None
    rights: str = ""
    trouble: str = ""


def ask_all(others: bool = True) -> list[Answer]:
    """Of the databases, then of the others: broker, workers, beat. Raises nothing, and ends within GIVEN_UP."""
    databases = [Answer(alias, place(alias)) for alias in settings.DATABASES]
    asked: list[tuple[Callable[..., None], list[Answer]]] = [(ask_database, [answer]) for answer in databases]
    if others:
        asked += [(ask_broker, [Answer("broker", broker_place()), Answer("workers")]), (ask_beat, [Answer("beat")])]
    threads = [threading.Thread(target=attempt, args=(ask, *answers), daemon=True) for ask, answers in asked]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + GIVEN_UP
    for thread, (_, (first, *_rest)) in zip(threads, asked, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            first.trouble = f"{first.place or first.name} gives no answer within {GIVEN_UP:.0f} s. Look at it there."
    return [answer for _, answers in asked for answer in answers]


def attempt(ask: Callable[..., None], first: Answer, *others: Answer) -> None:
    try:
        ask(first, *others)
    except EtlError as error:
        first.trouble = str(error)
    except Exception as error:
        first.trouble = f"{first.place or first.name}: unexpected {type(error).__name__}: {error}. This is a bug."


# --- Databases ---


def ask_database(answer: Answer) -> None:
    connection = hurried(answer.name)
    with diagnosed(answer.name), closing(connection):
        answer.version = server(connection)
        answer.latency_ms = latency(connection)
        answer.rights = "write" if may_write(connection) else "read only"
        answer.migrated = False
        look_at_tables(answer.name)
        answer.migrated = True
    if answer.rights != "write" and answer.name in settings.WAREHOUSE:
        raise ReadOnly(
            f"{answer.place} does not take writes of user {connection.settings_dict['USER']!r}. Grant them, or correct the server."
        )


def hurried(alias: str) -> BaseDatabaseWrapper:
    """This thread's connection, which gives a silent server up after seconds."""
    connection = connections[alias]
    limits = {"mysql": {"connect_timeout": PATIENCE, "read_timeout": PATIENCE}, "postgresql": {"connect_timeout": PATIENCE}}
    options = connection.settings_dict["OPTIONS"] | limits.get(connection.vendor, {})
    connection.settings_dict = connection.settings_dict | {"OPTIONS": options}
    return connection


def latency(connection: BaseDatabaseWrapper) -> float:
    with connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.execute("SELECT 1")
        cursor.fetchone()
        return round((time.perf_counter() - began) * 1000, 2)


def may_write(connection: BaseDatabaseWrapper) -> bool:
    if connection.vendor == "sqlite":
        return os.access(connection.settings_dict["NAME"], os.W_OK)
    with connection.cursor() as cursor:
        cursor.execute(WRITES[connection.vendor])
        return bool(cursor.fetchone()[0])


def look_at_tables(alias: str) -> None:
    """A source has the columns that a run reads, whoever made them; our own databases have all their migrations."""
    for source in SOURCES.values():
        if source.alias == alias:
            check_source(source)
    steps = pending(alias) if alias in settings.WAREHOUSE else 0
    if steps:
        raise NotMigrated(f"{place(alias)} lacks {steps} migration{'' if steps == 1 else 's'}. {MIGRATE}")


# --- Broker, workers, beat ---


def broker_place() -> str:
    """Without its password."""
    if settings.CELERY_BROKER_URL.startswith("filesystem"):
        return f"broker ({settings.BROKER_DIR})"
    address = urlsplit(settings.CELERY_BROKER_URL)
    return f"broker ({address.hostname}:{address.port or 6379})"


def ask_broker(broker: Answer, workers: Answer) -> None:
    workers.trouble = "workers: cannot be asked while the broker does not answer."
    ask_carrier(broker)
    workers.trouble = ""
    attempt(ask_workers, workers)


def ask_carrier(broker: Answer) -> None:
    if settings.CELERY_BROKER_URL.startswith("filesystem"):
        if not os.access(settings.BROKER_DIR, os.W_OK):
            raise Unreachable(f"{broker.place} cannot be written. Give this user the right to the folder, or correct VAR_DIR.")
        broker.version = "files"
        return
    try:
        with redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            client.ping()
            began = time.perf_counter()
            client.ping()
            broker.latency_ms = round((time.perf_counter() - began) * 1000, 2)
            broker.version = f"Redis {client.info('server')['redis_version']}"
    except redis.AuthenticationError:
        raise AccessDenied(f"{broker.place} refuses its password. Correct CELERY_BROKER_URL.") from None
    except (redis.RedisError, OSError):
        raise Unreachable(f"{broker.place} does not answer. Start it, or correct CELERY_BROKER_URL.") from None


def ask_workers(workers: Answer) -> None:
    names = sorted(name for answer in app.control.ping(timeout=ROLL_CALL) for name in answer)
    if not names:
        raise Unreachable(f"workers: none answers. {START.format(part='worker')}")
    workers.place = ", ".join(names)
    workers.version = f"{len(names)} alive"


def ask_beat(beat: Answer) -> None:
    """Its last tick, by what it wrote down, or by its sign, whichever is later."""
    hurried("default")
    try:
        with diagnosed("default"), closing(connections["default"]):
            last = PeriodicTask.objects.aggregate(last=Max("last_run_at"))["last"]
    except EtlError:
        raise Unreachable("beat: cannot be asked while the control database is not ready.") from None
    now = timezone.now()
    seen = max((instant for instant in (last, signed("beat")) if instant), default=None)
    if seen is None:
        raise Unreachable(f"beat: has never been seen. {START.format(part='beat')}")
    age = max(now - seen, timedelta())
    beat.version = f"{age.total_seconds():.0f} s ago"
    if age > BEAT_SILENT:
        raise Unreachable(f"beat: has given no sign since {seen:%Y-%m-%d %H:%M:%S} UTC. {START.format(part='beat')}")


def signed(part: str) -> datetime | None:
    try:
        return datetime.fromtimestamp((settings.VAR_DIR / "alive" / part).stat().st_mtime, UTC)
    except OSError:
        return None
