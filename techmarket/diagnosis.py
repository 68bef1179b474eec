"""Turn what a database driver raises into one of our errors: the thing, the cause, the next step, and no secret."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import django.db
import MySQLdb
import psycopg
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from techmarket import errors
from techmarket.errors import EtlError
from techmarket.messages import Message, message

MIGRATE = "Run `manage.py migrate_all`."
Diagnosis = tuple[type[EtlError], str]  # the error, and the code of its message

OPTION: Diagnosis = (errors.Misconfigured, "database.bad_option")
TLS: Diagnosis = (errors.Misconfigured, "database.no_encryption")
NO_CONNECTION: Diagnosis = (errors.Transient, "database.no_free_connection")
UNREACHABLE: Diagnosis = (errors.Unreachable, "database.unreachable")
LOST: Diagnosis = (errors.ConnectionLost, "database.connection_lost")
OTHER: Diagnosis = (errors.Terminal, "database.other")
# In our own two databases migrations decide which columns there are, not the declaration of a source.
OWN_COLUMN: Diagnosis = (errors.NotMigrated, "database.missing_own_column")
MYSQL: dict[int, Diagnosis] = {
    1044: (errors.AccessDenied, "database.not_granted"),
    1045: (errors.AccessDenied, "database.bad_password"),
    1129: (errors.AccessDenied, "database.host_blocked"),
    1130: (errors.AccessDenied, "database.host_refused"),
    1142: (errors.AccessDenied, "database.table_denied"),
    1143: (errors.AccessDenied, "database.column_denied"),
    1698: (errors.AccessDenied, "database.user_refused"),
    1049: (errors.Misconfigured, "database.missing"),
    1146: (errors.NotMigrated, "database.missing_table"),
    1054: (errors.SchemaDrift, "database.missing_column"),
    1412: (errors.Transient, "database.table_changed"),
    1205: (errors.LockTimeout, "database.lock_timeout"),
    1213: (errors.Transient, "database.deadlock"),
    1021: (errors.NoSpace, "database.disk_full"),
    1040: NO_CONNECTION,
    1203: NO_CONNECTION,
    1226: NO_CONNECTION,
    1969: (errors.Transient, "database.statement_timeout"),
    3024: (errors.Transient, "database.statement_timeout"),
    2026: TLS,
    2002: UNREACHABLE,
    2003: UNREACHABLE,
    2005: (errors.Unreachable, "database.unknown_host"),
}
SQLITE: dict[str, Diagnosis] = {
    "unable to open": (errors.Unreachable, "database.file_unwritable"),
    "not a database": (errors.Unreachable, "database.file_foreign"),
    "malformed": (errors.Unreachable, "database.file_damaged"),
    "no such table": (errors.NotMigrated, "database.missing_table"),
    "no such column": (errors.SchemaDrift, "database.missing_column"),
    "readonly": (errors.ReadOnly, "database.file_read_only"),
    "locked": (errors.LockTimeout, "database.file_locked"),
    "disk I/O": (errors.Terminal, "database.disk_error"),
    "full": (errors.NoSpace, "database.disk_full"),
}
POSTGRES: dict[str, Diagnosis] = {
    "28": (errors.AccessDenied, "database.bad_password"),
    "3D000": (errors.Misconfigured, "database.missing"),
    "42P01": (errors.NotMigrated, "database.missing_table"),
    "3F000": (errors.NotMigrated, "database.missing_schema"),
    "42703": OWN_COLUMN,
    "42501": (errors.AccessDenied, "database.denied"),
    "25006": (errors.ReadOnly, "database.read_only"),
    "53300": NO_CONNECTION,
    "53": (errors.NoSpace, "database.full"),
    "55P03": (errors.LockTimeout, "database.warehouse_locked"),
    "40": (errors.Transient, "database.transient"),
    "57014": (errors.Transient, "database.statement_cancelled"),
    "57": (errors.ConnectionLost, "database.restarting"),
    "08": LOST,
}
MYSQL_LOST = (2006, 2013, 2027, 2055, 1053, 1317, 1927)
# Looked up in this order, by phrases of libpq and psycopg.
WITHOUT_STATE: list[tuple[Diagnosis, tuple[str, ...]]] = [
    (POSTGRES["28"], ("authentication failed", "no password supplied", "no pg_hba.conf entry", 'role "', "permission denied for database")),
    (POSTGRES["3D000"], ("does not exist",)),
    (POSTGRES["53300"], ("too many clients", "too many connections", "connection slots")),
    (POSTGRES["57"], ("starting up", "shutting down", "recovery mode")),
    (MYSQL[2005], ("resolve host", "translate host")),
    (TLS, ("does not support SSL", "certificate", "SSL error")),
    (OPTION, ("invalid",)),
    (UNREACHABLE, ("connection failed", "timeout")),
]


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
    """Return our error for what a driver raised on `alias`; what the tables above do not know becomes Terminal with the driver's words."""
    cause = error.__cause__ if isinstance(error, django.db.Error) and error.__cause__ else error
    kind, code = find_diagnosis(cause)
    if kind is errors.SchemaDrift and alias not in settings.SOURCES:
        kind, code = OWN_COLUMN
    return kind(database_message(code, alias, cause))


def database_message(code: str, alias: str, cause: object) -> Message:
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
    )


def find_diagnosis(cause: BaseException) -> Diagnosis:
    if isinstance(cause, MySQLdb.Error):
        code = cause.args[0] if cause.args else 0
        if code in MYSQL_LOST:
            return UNREACHABLE if "handshake" in str(cause) or "initial communication" in str(cause) else LOST
        return MYSQL.get(code, OTHER)
    if isinstance(cause, sqlite3.Error):
        return next((found for phrase, found in SQLITE.items() if phrase in str(cause)), OTHER)
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate:
            return next((found for state, found in POSTGRES.items() if cause.sqlstate.startswith(state)), OTHER)
        return find_without_state(str(cause))
    return OTHER


def find_without_state(text: str) -> Diagnosis:
    """libpq gives no SQLSTATE for what failed before a session began, nor for a connection that broke."""
    return next((found for found, phrases in WITHOUT_STATE if any(phrase in text for phrase in phrases)), LOST)


def first_line(cause: BaseException) -> str:
    text = str(cause.args[1]) if isinstance(cause, MySQLdb.Error) and len(cause.args) > 1 else str(cause)
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
