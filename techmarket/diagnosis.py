"""Turn what a database driver raises into one of our errors: the thing, the cause, the next step, and no secret."""

import inspect
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager

import django.db
import MySQLdb
import MySQLdb.connections
import psycopg
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import pq

from techmarket import errors
from techmarket.driver_errors import (
    BAD_PASSWORD,
    CANCELLED,
    LOST,
    MISSING,
    MISSING_TABLE,
    MYSQL,
    MYSQL_CONNECTING,
    NO_PASSWORD,
    NO_SESSION,
    OPTION,
    OTHER,
    PASSWORD_OR_PLAIN,
    POSTGRES,
    POSTGRES_CONNECTING,
    REACHED,
    SQLITE,
    SQLITE_ERROR,
    STATEMENT_LIMIT,
    TLS,
    TOO_OLD,
    UNKNOWN_HOST,
    UNREACHABLE,
    Diagnosis,
)
from techmarket.errors import EtlError
from techmarket.messages import Message, message
from techmarket.pending import can_migrate
from techmarket.postgres_login import ask_refusal

MIGRATE = "Run `manage.py migrate_all`."
TLS_MODES = ("require", "verify-ca", "verify-full")
# An error that passed through one of these was raised while a connection was opened.
CONNECTING = (MySQLdb.connections.Connection.__init__.__code__, inspect.unwrap(psycopg.Connection.connect).__code__)


def place(alias: str) -> str:
    """Return how a message names a database: its alias and where it is, without user or password."""
    config = settings.DATABASES[alias]
    is_file = config["ENGINE"].endswith("sqlite3")
    by_path = is_file or config["HOST"].startswith("/")  # a socket
    where = str(config["NAME" if is_file else "HOST"]) if by_path else f"{config['HOST']}:{config.get('PORT') or 'default port'}"
    return message("database.control", where=where) if alias == "default" else f"{alias} ({where})"


def server(connection: BaseDatabaseWrapper) -> str:
    """Return the server's kind and version, as it reports them."""
    kind = "MariaDB" if getattr(connection, "mysql_is_mariadb", False) else connection.display_name
    return f"{kind} {'.'.join(map(str, connection.get_database_version()))}"


def diagnose(error: Exception, alias: str) -> EtlError:
    """Return our error for what a driver raised on `alias`; what the tables do not know becomes Terminal with the driver's words."""
    cause = error.__cause__ if isinstance(error, django.db.Error) and error.__cause__ else error
    found = find_diagnosis(cause)
    if found in MISSING:
        found = find_missing(found, alias)
    elif found == BAD_PASSWORD:
        found = refine_bad_password(alias)
    elif found == CANCELLED and has_timed_out(cause, alias):
        found = STATEMENT_LIMIT
    kind, code = found
    return kind(database_message(code, alias, cause))


def missing_table(alias: str, table: str) -> EtlError:
    """Return the error for a table that the database lacks."""
    kind, code = find_missing(MISSING_TABLE, alias)
    return kind(database_message(code, alias, table))


def find_missing(diagnosis: Diagnosis, alias: str) -> Diagnosis:
    """Return who can restore what is missing: a migration only where one has not been applied yet."""
    migrate, restore_source, restore = MISSING[diagnosis]
    if can_migrate(alias):
        return migrate
    return restore if alias in settings.WAREHOUSE else restore_source


def refine_bad_password(alias: str) -> Diagnosis:
    """MySQL says 1045 for an account that requires TLS, too, and for a password that was not given."""
    config = settings.DATABASES[alias]
    if not config.get("PASSWORD"):
        return NO_PASSWORD
    has_tls = any(name.startswith("ssl") for name in config.get("OPTIONS", {}))
    return BAD_PASSWORD if has_tls or alias in settings.WAREHOUSE else PASSWORD_OR_PLAIN


def has_timed_out(cause: BaseException, alias: str) -> bool:
    """Return True if PostgreSQL's statement_timeout has ended the statement. It has one SQLSTATE for that and for a cancel.

    Another statement is let time out for comparison: the server then says the same, in whatever language.
    """
    if not isinstance(cause, psycopg.Error):
        return False
    try:
        with closing(connections[alias].copy()) as connection, connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(1)")
    except django.db.Error as error:
        timeout = error.__cause__
        return isinstance(timeout, psycopg.errors.QueryCanceled) and timeout.diag.message_primary == cause.diag.message_primary
    return False


def database_message(code: str, alias: str, cause: object, **parameters: str) -> Message:
    config = settings.DATABASES[alias]
    # The control database may fail after the warehouse has committed: there we promise nothing.
    published = "" if alias == "default" else message("database.nothing_published")
    return message(
        code,
        place=place(alias),
        user=repr(config.get("USER", "")),
        name=repr(str(config["NAME"])),
        variable=settings.VARIABLES[alias],
        detail=first_line(cause) if isinstance(cause, BaseException) else str(cause),
        published=published,
        **parameters,
    )


def find_diagnosis(cause: BaseException) -> Diagnosis:
    if isinstance(cause, MySQLdb.Error):
        return find_mysql(cause)
    if isinstance(cause, sqlite3.Error):
        return find_sqlite(cause)
    if isinstance(cause, psycopg.Error):
        return find_postgres(cause)
    if isinstance(cause, django.db.NotSupportedError):  # Django's own, at connect: it names the versions
        return TOO_OLD
    return OTHER


def find_mysql(cause: MySQLdb.Error) -> Diagnosis:
    code = cause.args[0] if cause.args and isinstance(cause.args[0], int) else 0
    if is_connecting(cause) and code in MYSQL_CONNECTING:
        return MYSQL_CONNECTING[code]
    return MYSQL.get(code, OTHER)


def find_sqlite(cause: sqlite3.Error) -> Diagnosis:
    name = getattr(cause, "sqlite_errorname", "")
    if name == "SQLITE_ERROR":
        return next((found for phrase, found in SQLITE_ERROR.items() if phrase in str(cause)), OTHER)
    return next((SQLITE[each] for each in (name, primary_name(name)) if each in SQLITE), OTHER)


def primary_name(name: str) -> str:
    """SQLITE_IOERR of SQLITE_IOERR_READ."""
    return "_".join(name.split("_")[:2])


def find_postgres(cause: psycopg.Error) -> Diagnosis:
    if isinstance(cause, psycopg.errors.ConnectionTimeout):
        return UNREACHABLE
    if is_connecting(cause):
        return find_refused_login(cause)
    if cause.sqlstate:
        return find_state(cause.sqlstate, POSTGRES)
    # psycopg itself has found these: a session that broke, or a mistake in how it is called.
    return LOST if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) else OTHER


def find_refused_login(cause: psycopg.Error) -> Diagnosis:
    """Decide by the SQLSTATE of a login that is tried again, or by how far it came: libpq gives nothing but words for the first one."""
    if not isinstance(cause, psycopg.OperationalError):
        return OPTION  # psycopg refuses the address
    if cause.pgconn is None:
        return UNKNOWN_HOST  # psycopg resolves names itself, before libpq has begun
    refusal = ask_refusal(cause.pgconn)
    if refusal.sqlstate:
        return find_state(refusal.sqlstate, POSTGRES_CONNECTING, POSTGRES)
    if refusal.needs_password:
        return NO_PASSWORD
    if refusal.reached == pq.ConnStatus.SSL_STARTUP and refusal.sslmode in TLS_MODES:
        return TLS
    if refusal.reached == pq.ConnStatus.BAD and refusal.is_socket:
        return UNREACHABLE
    return REACHED.get(refusal.reached, NO_SESSION)


def find_state(sqlstate: str, *tables: dict[str, Diagnosis]) -> Diagnosis:
    """Look for the whole SQLSTATE in each table, then for its class."""
    return next((table[key] for key in (sqlstate, sqlstate[:2]) for table in tables if key in table), OTHER)


def is_connecting(cause: BaseException) -> bool:
    """Return True if the driver raised it while it opened a connection."""
    frames = traceback.walk_tb(cause.__traceback__)
    return any(frame.f_code in CONNECTING for frame, _ in frames)


def first_line(cause: BaseException) -> str:
    text = str(cause.args[1]) if isinstance(cause, MySQLdb.Error) and len(cause.args) > 1 else str(cause)
    if is_connecting(cause) and isinstance(cause, psycopg.Error):
        text = text.rpartition(" failed: ")[2]  # libpq repeats where it connects to
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else type(cause).__name__


@contextmanager
def diagnosed(alias: str) -> Iterator[None]:
    """Turn whatever a driver raises on `alias` inside into one of our errors."""
    try:
        yield
    except (django.db.Error, MySQLdb.Error, psycopg.Error, sqlite3.Error) as error:
        raise diagnose(error, alias) from error
    except TypeError as error:
        # MySQLdb and sqlite3 take the options of an address as arguments.
        if "keyword argument" not in str(error) or connections[alias].connection is not None:
            raise
        raise errors.Misconfigured(database_message(OPTION[1], alias, error)) from error


def close(alias: str) -> None:
    """Close a connection that an error has left in doubt; the next use opens a new one."""
    if not connections[alias].in_atomic_block:
        connections[alias].close()
