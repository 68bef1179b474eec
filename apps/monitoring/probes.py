"""The parts of TechMarket and how each is probed. PROBES is the one list behind /readyz, `manage.py ping` and the metric `up`.

A probe asks one part: the control database, the warehouse, a source, the broker, the workers, beat, or whether a duty was done. /readyz
and the metric need to know only whether a part can be used; `ping` asks for details too.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Flag, auto
from functools import partial
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import redis
import structlog
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from kombu.exceptions import OperationalError

from apps.etl.checks import describe_failure
from apps.etl.preconditions import check_server
from apps.etl.preflight import check_database
from apps.etl.replicas import catch_up
from apps.monitoring.rights import find_excess, may_write
from apps.orchestration import clock
from apps.orchestration.duties import BEAT_MAX_SILENCE, DutyState, read_beat_sign, read_duties
from apps.orchestration.hosts import wrong_clocks
from apps.orchestration.models import DutyName, HostClock
from techmarket.batch_address import BatchAddress
from techmarket.celery import app
from techmarket.diagnosis import diagnosed, place, server
from techmarket.encryption import describe_encryption, describe_socket, find_tls_cause
from techmarket.errors import AccessDenied, EtlError, Misconfigured, ReplicaLags, Unreachable
from techmarket.liveness import read_liveness_time
from techmarket.migrations import require_migrations

log = structlog.get_logger()
QUICK_DEADLINE_S = 3.0  # for all parts together; Kubernetes and Compose give a probe five
CONNECTION_TIMEOUT_S = 5  # for one step of one probe: to connect, or to read an answer
WORKER_REPLY_TIMEOUT_S = 1.5
LAG_TIMEOUT_S = 5  # for which a replica may catch up
NO_ANSWER = "It has not answered in time."
UNEXPECTED = "An unexpected error."
START = "Start one: `make run`, or `celery -A techmarket {part}`."


class Use(Flag):
    """Who asks a probe."""

    READYZ = auto()
    METRICS = auto()
    PING = auto()


@dataclass
class Answer:
    """What one part answered.

    `latency_ms` is the time of one query on an open connection. `trouble` is empty where the part can be used; else it names the
    part, the cause and the next step, for an operator. `kind` is the kind of trouble, without names or addresses, for anybody.
    `encryption` is the version of TLS, "none" where the connection is in plain text, empty where there is no connection.
    `warnings`: what a run would warn of, too.
    """

    name: str
    place: str = ""
    version: str = ""
    latency_ms: float | None = None
    migrated: bool | None = None
    rights: str = ""
    encryption: str = ""
    trouble: str = ""
    kind: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Probe:
    """Declares one part and who asks it.

    `ask(answer, detailed)` raises an EtlError where the part cannot be used, and fills `answer` with the details if they are wanted.
    `alias` is the part's key in settings.DATABASES, empty where the part is not a database.
    """

    name: str
    uses: Use
    ask: Callable[[Answer, bool], None]
    find_place: Callable[[], str] = str
    alias: str = ""

    def run(self, answer: Answer, detailed: bool) -> None:
        """Ask, and write trouble into `answer` instead of raising it."""
        try:
            self.ask(answer, detailed)
        except EtlError as error:
            answer.trouble, answer.kind = str(error), str(type(error).__doc__)
        except Exception as error:
            answer.trouble = f"{answer.place or self.name}: unexpected {type(error).__name__}: {error}. This is a bug."
            answer.kind = UNEXPECTED
        finally:
            connections.close_all()  # this thread's own


def ask_probes(probes: Iterable[Probe], deadline_s: float, detailed: bool) -> list[Answer]:
    """Return the answers in the order of `probes`, all asked at once. Raises nothing, and returns within `deadline_s` seconds."""
    answers = [(probe, Answer(probe.name, probe.find_place())) for probe in probes]
    # Daemon threads, not a pool: a pool's threads would delay the end of the process until their drivers give up.
    threads = [threading.Thread(target=probe.run, args=(answer, detailed), daemon=True) for probe, answer in answers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + deadline_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [
        without_answer(answer, deadline_s) if thread.is_alive() else answer for thread, (_, answer) in zip(threads, answers, strict=True)
    ]


def ask_quickly(probes: Iterable[Probe]) -> list[Answer]:
    """Ask only whether the parts can be used, within QUICK_DEADLINE_S, and log those that cannot."""
    answers = ask_probes(probes, QUICK_DEADLINE_S, detailed=False)
    for answer in answers:
        if answer.trouble:
            log.warning("a part is not ready", part=answer.name, cause=answer.trouble)
    return answers


def without_answer(answer: Answer, deadline_s: float) -> Answer:
    """Return a new answer: the thread, which is still running, may yet write to the old one."""
    trouble = f"{answer.place or answer.name} gives no answer within {deadline_s:.0f} s. Check it there."
    return Answer(answer.name, answer.place, trouble=trouble, kind=NO_ANSWER)


# --- Databases ---


def ask_database(alias: str, answer: Answer, detailed: bool) -> None:
    connection = limit_waiting(alias)
    with diagnosed(alias):
        connection.ensure_connection()
        if detailed:
            answer.version = server(connection)
            answer.encryption = describe_encryption(connection)
            answer.latency_ms = measure_latency(connection)
            answer.rights = "write" if may_write(connection, alias) else "read only"
            check_server(alias)
        answer.migrated = False
        if alias in settings.WAREHOUSE:
            require_migrations(alias)
        if detailed:
            answer.warnings = find_warnings(alias)
        answer.migrated = True
        if detailed:
            answer.warnings += [*describe_excess(connection, alias, answer.place), *describe_skew(alias, answer.place)]
        if detailed and (source := find_source(alias)):
            describe_lag(source, connection, answer)
        if detailed and alias == "default":
            answer.warnings += [describe_clock(each) for each in wrong_clocks().exclude(host=socket.gethostname())]


def find_source(replica: str) -> str:
    """Return the alias of the source of a replica; empty for any other database."""
    return next((source for source, alias in settings.REPLICAS.items() if alias == replica), "")


def describe_lag(source: str, replica: BaseDatabaseWrapper, answer: Answer) -> None:
    """Add how long the replica took to have all that its source has. Raises ReplicaLags where a run would; warns where it would wait."""
    limit_s = min(LAG_TIMEOUT_S, settings.ETL_MAX_REPLICA_LAG_SECONDS)
    limit_waiting(source)
    try:
        with replica.cursor() as cursor:
            answer.version += f", {catch_up(source, cursor, limit_s)[1]:.1f} s behind"
    except ReplicaLags:
        if limit_s == settings.ETL_MAX_REPLICA_LAG_SECONDS:
            raise
        answer.version += f", over {limit_s:.0f} s behind"
        waits = f"a run waits for it for up to {settings.ETL_MAX_REPLICA_LAG_SECONDS} s"
        answer.warnings.append(f"{answer.place}: warning: it is more than {limit_s:.0f} s behind {place(source)}; {waits}.")


def describe_skew(alias: str, where: str) -> list[str]:
    """Return a warning where a clock differs: the server's, or for the control database this machine's. An SQLite file has no clock."""
    if connections[alias].vendor == "sqlite":
        return []
    try:
        limit_waiting("default")
        skew = clock.own_skew() if alias == "default" else clock.skew_of(alias)
    except EtlError:
        return []  # the control database's own probe reports it
    if abs(skew) <= clock.MAX_SKEW:
        return []
    whose = "this machine's clock" if alias == "default" else "its clock"
    direction = "ahead of" if skew > timedelta() else "behind"
    return [f"{where}: warning: {whose} is {abs(skew).total_seconds():.0f} s {direction} the control database's. Set it by NTP."]


def describe_clock(clock: HostClock) -> str:
    direction = "ahead of" if clock.ahead_seconds > 0 else "behind"
    off = f"{clock.off.total_seconds():.0f} s {direction} the control database's"
    return f"{clock.host} ({clock.role}): warning: its clock is {off}. Set it by NTP on that host: with chrony or systemd-timesyncd."


def limit_waiting(alias: str) -> BaseDatabaseWrapper:
    """Return this thread's connection, set to give up on a silent server after CONNECTION_TIMEOUT_S."""
    connection = connections[alias]
    limits = {
        "mysql": {"connect_timeout": CONNECTION_TIMEOUT_S, "read_timeout": CONNECTION_TIMEOUT_S},
        "postgresql": {"connect_timeout": CONNECTION_TIMEOUT_S},
    }
    options = connection.settings_dict["OPTIONS"] | limits.get(connection.vendor, {})
    connection.settings_dict = connection.settings_dict | {"OPTIONS": options}
    return connection


def measure_latency(connection: BaseDatabaseWrapper) -> float:
    """Return the milliseconds of one SELECT on an open connection."""
    with connection.cursor() as cursor:
        start = time.perf_counter()
        cursor.execute("SELECT 1")
        cursor.fetchone()
        return milliseconds_since(start)


def milliseconds_since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 2)


def describe_excess(connection: BaseDatabaseWrapper, alias: str, where: str) -> list[str]:
    """Return a warning where the user may do more than web and workers need, in production. Migrations and backups use other users."""
    excess = "" if settings.DEBUG else find_excess(connection, alias)
    user = connection.settings_dict["USER"]
    return [f"{where}: warning: user '{user}' {excess}. See Users and permissions in docs/DATABASES."] if excess else []


def find_warnings(alias: str) -> list[str]:
    """Check the tables as the preflight does. Return the warnings."""
    return list(dict.fromkeys(f"{place(alias)}: warning: {describe_failure(warning)}." for warning in check_database(alias)))


# --- Batch store, broker, workers, beat ---


def find_batch_store(address: BatchAddress) -> str:
    return f"batch store ({address.place})"


def ask_batch_store(address: BatchAddress, answer: Answer, detailed: bool) -> None:
    """Write, read and delete an object, as the preflight of a run does."""
    from apps.etl.batch_store import connect  # with pyarrow, which the web process does not import: no request asks this probe

    start = time.perf_counter()
    connect(address).check(f"ping/{uuid4()}")
    answer.latency_ms = milliseconds_since(start)
    answer.rights = "write"


def declare_batch_store(address: BatchAddress | None) -> list[Probe]:
    return [Probe("batches", Use.PING, partial(ask_batch_store, address), partial(find_batch_store, address))] if address else []


def find_broker() -> str:
    """Return the broker's name and address, without its password."""
    if uses_files():
        return f"broker ({settings.BROKER_DIR})"
    address = urlsplit(settings.CELERY_BROKER_URL)
    return f"broker ({address.hostname}:{address.port or 6379})"


def uses_files() -> bool:
    return bool(settings.CELERY_BROKER_URL.startswith("filesystem"))


def ask_broker(answer: Answer, detailed: bool) -> None:
    if uses_files():
        if not os.access(settings.BROKER_DIR, os.W_OK):
            raise Unreachable(f"{answer.place} cannot be written. Give this user the right to the folder, or correct VAR_DIR.")
        answer.version = "files"
        return
    timeouts = {"socket_timeout": CONNECTION_TIMEOUT_S, "socket_connect_timeout": CONNECTION_TIMEOUT_S}
    try:
        with redis.Redis.from_url(settings.CELERY_BROKER_URL, **timeouts) as client:
            client.ping()
            if detailed:
                start = time.perf_counter()
                client.ping()
                answer.latency_ms = milliseconds_since(start)
                answer.version = f"Redis {client.info('server')['redis_version']}"
                answer.encryption = describe_redis_encryption(client)
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise AccessDenied(describe_refusal(answer.place, error)) from None
    except (redis.RedisError, OSError) as error:
        if problem := find_tls_cause(error):
            raise Misconfigured(
                f"{answer.place}: no encrypted connection: {problem}. Correct the server, its certificate or CELERY_BROKER_URL."
            ) from None
        raise Unreachable(f"{answer.place} does not answer. Start it, or correct CELERY_BROKER_URL.") from None


def describe_refusal(where: str, error: Exception) -> str:
    """Return what Redis refuses: a connection without a user, a user or its password, or a command that the user has no right to."""
    user = unquote(urlsplit(settings.CELERY_BROKER_URL).username or "default")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"{where} denies user {user!r} a command or a key: {error}. Grant it there, as deploy/redis/users.sh does."
    if not urlsplit(settings.CELERY_BROKER_URL).password:
        return f"{where} takes nobody without a password. Add user and password to CELERY_BROKER_URL: redis://user:password@host:port/0."
    return f"{where} refuses user {user!r} or its password. Correct CELERY_BROKER_URL."


def describe_redis_encryption(client: redis.Redis) -> str:
    connection = client.connection_pool.get_connection()
    try:
        return describe_socket(connection)
    finally:
        client.connection_pool.release(connection)


def ask_workers(answer: Answer, detailed: bool) -> None:
    try:
        ask_broker(Answer("broker", find_broker()), detailed=False)
    except EtlError:
        raise Unreachable("workers: cannot be asked while the broker does not answer.") from None
    try:
        names = sorted(name for reply in app.control.ping(timeout=WORKER_REPLY_TIMEOUT_S) for name in reply)
    except (redis.exceptions.NoPermissionError, OperationalError) as error:
        raise AccessDenied(f"workers: {describe_refusal(find_broker(), error)}") from None
    if not names:
        raise Unreachable(f"workers: none answers. {START.format(part='worker')}")
    answer.place = ", ".join(names)
    answer.version = f"{len(names)} alive"


def ask_beat(answer: Answer, detailed: bool) -> None:
    """Compare beat's last sign with the time: what it wrote to the database or the file in VAR_DIR, whichever is later.

    The file is fresher, because every tick touches it, but it exists only where beat shares our VAR_DIR. Its age is by the clock that has
    dated it, this machine's.
    """
    limit_waiting("default")
    touched = read_liveness_time("beat")
    try:
        with diagnosed("default"):
            now = clock.now()
            seen = read_beat_sign(now, touched and now - (clock.process_now() - touched))
    except EtlError:
        raise Unreachable("beat: cannot be asked while the control database is not ready.") from None
    if seen is None:
        raise Unreachable(f"beat: has never been seen. {START.format(part='beat')}")
    age = now - seen
    if age < -clock.MAX_SKEW:
        ahead = f"{seen:%Y-%m-%d %H:%M:%S} UTC, {-age.total_seconds():.0f} s ahead of the control database's clock"
        raise Unreachable(f"beat: its last sign is of {ahead}. Set the clock of its machine by NTP, then restart beat.")
    age = max(age, timedelta())
    answer.version = f"{age.total_seconds():.0f} s ago"
    if age > BEAT_MAX_SILENCE:
        raise Unreachable(f"beat: has given no sign since {seen:%Y-%m-%d %H:%M:%S} UTC. {START.format(part='beat')}")


DUTIES = {
    DutyName.REAP: "recovered dead workers' tasks",
    DutyName.SCHEDULES: "looked for missed scheduled runs",
    DutyName.FORGET: "deleted old details",
}


def ask_duty(name: DutyName, answer: Answer, detailed: bool) -> None:
    """Ask when a duty was last done. The control database's own probe reports where it cannot be asked."""
    limit_waiting("default")
    try:
        with diagnosed("default"):
            now = clock.now()
            duty = next(each for each in read_duties(now) if each.name == name)
    except EtlError:
        return
    answer.version = f"{max(now - duty.done_at, timedelta()).total_seconds():.0f} s ago" if duty.done_at else "not yet"
    if duty.overdue:
        raise Unreachable(describe_overdue(duty))


def describe_overdue(duty: DutyState) -> str:
    since = f"since {duty.done_at:%Y-%m-%d %H:%M:%S} UTC" if duty.done_at else "yet"
    undone = f"no worker has {DUTIES[duty.name]} {since}, although beat sends the message"
    return f"{duty.name}: {undone}. Read the log of the workers. {START.format(part='worker')}"


# --- The list ---

ALWAYS = Use.READYZ | Use.METRICS | Use.PING


def declare_database(name: str, uses: Use, alias: str) -> Probe:
    return Probe(name, uses, partial(ask_database, alias), partial(place, alias), alias)


# /readyz does not ask the sources: a web process without them is still of use, and a run reports which of them is down.
PROBES = (
    declare_database("control", ALWAYS, "default"),
    declare_database("dwh", ALWAYS, "dwh"),
    *(declare_database(alias, Use.PING, alias) for alias in (*settings.SOURCES, *settings.REPLICAS.values())),
    *declare_batch_store(settings.BATCH_STORE),
    Probe("broker", ALWAYS, ask_broker, find_broker),
    Probe("workers", Use.PING, ask_workers),
    Probe("beat", Use.PING, ask_beat),
    *(Probe(name.value, Use.PING, partial(ask_duty, name)) for name in DUTIES),
)


def probes_for(use: Use) -> list[Probe]:
    return [probe for probe in PROBES if use in probe.uses]
