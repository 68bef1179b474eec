"""Turns what a database driver says into one of our errors: the thing, the cause, the next step, and no secret."""

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
from techmarket.messages import gettext_noop as _

MIGRATE = "Run `manage.py migrate_all`."
KEPT = _("; nothing was published")
CONTROL = _("control database ({where})")
READ_ONLY = _("{place} is read-only (a standby, or default_transaction_read_only). Correct {variable}.")
OPTION = (errors.Misconfigured, _("{place}: {variable} has an option that the driver refuses: {said}. Correct it."))
TLS = (errors.Misconfigured, _("{place}: no encrypted connection: {said}. Correct the server or {variable}."))
FULL = (errors.Transient, _("{place} has no free connection{kept}. Run it again later."))
MYSQL: dict[int, tuple[type[EtlError], str]] = {
    1044: (errors.AccessDenied, _("{place} refuses user {user} this database. Grant it SELECT there.")),
    1045: (errors.AccessDenied, _("{place} refuses user {user} or its password. Correct {variable}.")),
    1129: (errors.AccessDenied, _("{place} has blocked this host after failed attempts. Run FLUSH HOSTS there.")),
    1130: (errors.AccessDenied, _("{place} refuses user {user} from this host. Allow it, or correct {variable}.")),
    1142: (errors.AccessDenied, _("{place} denies user {user} a table: {said}. Grant it there.")),
    1143: (errors.AccessDenied, _("{place} denies user {user} a column: {said}. Grant it there.")),
    1698: (errors.AccessDenied, _("{place} refuses user {user}. Correct {variable}.")),
    1049: (errors.Misconfigured, _("{place} has no database {name}. Create it, or correct {variable}.")),
    1146: (errors.NotMigrated, _("{place} lacks a table: {said}. Run `manage.py migrate_all`.")),
    1054: (errors.SchemaDrift, _("{place} lacks a column: {said}. Bring the source and apps/etl/tables.py in step.")),
    1412: (errors.Transient, _("{place} changed a table while it was read{kept}. Run it again.")),
    1205: (errors.LockTimeout, _("{place}: waited too long for a lock{kept}. Run it again.")),
    1213: (errors.Transient, _("{place}: deadlock{kept}. Run it again.")),
    1021: (errors.NoSpace, _("{place}: its disk is full{kept}. Free space there, then run it again.")),
    1040: FULL,
    1203: FULL,
    1226: FULL,
    1969: (errors.Transient, _("{place}: the statement took longer than the server allows{kept}. Run it again.")),
    3024: (errors.Transient, _("{place}: the statement took longer than the server allows{kept}. Run it again.")),
    2026: TLS,
    2002: (errors.Unreachable, _("{place} does not answer. Start it, or correct {variable}.")),
    2003: (errors.Unreachable, _("{place} does not answer. Start it, or correct {variable}.")),
    2005: (errors.Unreachable, _("{place}: the host's name is unknown. Correct {variable}.")),
}
SQLITE: dict[str, tuple[type[EtlError], str]] = {
    "unable to open": (
        errors.Unreachable,
        _("{place} cannot be opened for writing. Give this user the right to the file and its folder, or correct {variable}."),
    ),
    "not a database": (errors.Unreachable, _("{place} is not an SQLite file. Correct {variable}.")),
    "malformed": (errors.Unreachable, _("{place} is damaged: {said}. Restore it from a backup.")),
    "no such table": (errors.NotMigrated, _("{place} lacks a table: {said}. Run `manage.py migrate_all`.")),
    "no such column": (errors.SchemaDrift, _("{place} lacks a column: {said}. Bring the source and apps/etl/tables.py in step.")),
    "readonly": (errors.ReadOnly, _("{place} is read-only. Give this user the right to write the file and its folder.")),
    "locked": (errors.LockTimeout, _("{place} is locked by another program{kept}. Run it again when it has ended.")),
    "disk I/O": (errors.Terminal, _("{place}: the disk does not take or give what is asked{kept}. Look at the disk, then run it again.")),
    "full": (errors.NoSpace, _("{place}: the disk is full{kept}. Free space, then run it again.")),
}
# Our own two databases: no declaration decides what is in them, their migrations do.
COLUMN = (errors.NotMigrated, _("{place} lacks a column: {said}. Run `manage.py migrate_all`."))
POSTGRES: dict[str, tuple[type[EtlError], str]] = {
    "28": (errors.AccessDenied, _("{place} refuses user {user} or its password. Correct {variable}.")),
    "3D000": (errors.Misconfigured, _("{place} has no database {name}. Create it, or correct {variable}.")),
    "42P01": (errors.NotMigrated, _("{place} lacks a table: {said}. Run `manage.py migrate_all`.")),
    "3F000": (errors.NotMigrated, _("{place} lacks a schema: {said}. Run `manage.py migrate_all`.")),
    "42703": COLUMN,
    "42501": (errors.AccessDenied, _("{place} denies user {user} this: {said}. Grant it.")),
    "25006": (errors.ReadOnly, READ_ONLY),
    "53300": FULL,
    "53": (errors.NoSpace, _("{place} is full: {said}{kept}. Free space there, then run it again.")),
    "55P03": (
        errors.LockTimeout,
        _("{place}: another session holds a lock on the star{kept}. Run it again when it has ended."),
    ),
    "40": (errors.Transient, _("{place}: {said}{kept}. Run it again.")),
    "57014": (errors.Transient, _("{place}: the statement was cancelled{kept}. Run it again.")),
    "57": (errors.ConnectionLost, _("{place} is stopping or starting{kept}. Run it again.")),
    "08": (errors.ConnectionLost, _("{place} closed the connection{kept}. Run it again.")),
}
MYSQL_LOST = (2006, 2013, 2027, 2055, 1053, 1317, 1927)
LOST = (errors.ConnectionLost, _("{place} closed the connection{kept}. Run it again."))
UNKNOWN = (errors.Terminal, _("{place}: {said}{kept}. See to it there, then run it again."))
AWAY = (errors.Unreachable, _("{place} does not answer. Start it, or correct {variable}."))
# Looked up in this order, in the words of libpq and psycopg.
WITHOUT_STATE: list[tuple[tuple[type[EtlError], str], tuple[str, ...]]] = [
    (POSTGRES["28"], ("authentication failed", "no password supplied", "no pg_hba.conf entry", 'role "', "permission denied for database")),
    (POSTGRES["3D000"], ("does not exist",)),
    (POSTGRES["53300"], ("too many clients", "too many connections", "connection slots")),
    (POSTGRES["57"], ("starting up", "shutting down", "recovery mode")),
    (MYSQL[2005], ("resolve host", "translate host")),
    (TLS, ("does not support SSL", "certificate", "SSL error")),
    (OPTION, ("invalid",)),
    (AWAY, ("connection failed", "timeout")),
]


def place(alias: str) -> str:
    """How a message names a database: its alias and where it is, without user or password."""
    config = settings.DATABASES[alias]
    file = config["ENGINE"].endswith("sqlite3")
    where = str(config["NAME"]) if file else f"{config['HOST']}:{config.get('PORT') or 'default port'}"
    return CONTROL.format(where=where) if alias == "default" else f"{alias} ({where})"


def server(connection: BaseDatabaseWrapper) -> str:
    """Its kind and version, as it says them itself."""
    kind = "MariaDB" if getattr(connection, "mysql_is_mariadb", False) else connection.display_name
    return f"{kind} {'.'.join(map(str, connection.get_database_version()))}"


def diagnose(error: Exception, alias: str) -> EtlError:
    """The error of ours for what a driver raised on `alias`. What no row of the tables knows is a failure with the driver's words."""
    cause = error.__cause__ if isinstance(error, django.db.Error) and error.__cause__ else error
    kind, message = lookup(cause)
    if kind is errors.SchemaDrift and alias not in settings.SOURCES:
        kind, message = COLUMN
    config = settings.DATABASES[alias]
    return kind(
        message.format(
            place=place(alias),
            user=repr(config.get("USER", "")),
            name=repr(str(config["NAME"])),
            variable=settings.VARIABLES[alias],
            said=first_line(cause),
            # Of the control database we know no such thing: it may fail after the warehouse has committed.
            kept="" if alias == "default" else KEPT,
        )
    )


def lookup(cause: BaseException) -> tuple[type[EtlError], str]:
    if isinstance(cause, MySQLdb.Error):
        code = cause.args[0] if cause.args else 0
        if code in MYSQL_LOST:
            return AWAY if "handshake" in str(cause) or "initial communication" in str(cause) else LOST
        return MYSQL.get(code, UNKNOWN)
    if isinstance(cause, sqlite3.Error):
        return next((row for words, row in SQLITE.items() if words in str(cause)), UNKNOWN)
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate:
            return next((row for state, row in POSTGRES.items() if cause.sqlstate.startswith(state)), UNKNOWN)
        return lookup_without_state(str(cause))
    return UNKNOWN


def lookup_without_state(words: str) -> tuple[type[EtlError], str]:
    """libpq gives no SQLSTATE for what failed before a session began, nor for a connection that broke."""
    return next((row for row, signs in WITHOUT_STATE if any(sign in words for sign in signs)), LOST)


def first_line(cause: BaseException) -> str:
    words = str(cause.args[1]) if isinstance(cause, MySQLdb.Error) and len(cause.args) > 1 else str(cause)
    return words.strip().splitlines()[0].rstrip(".") if words.strip() else type(cause).__name__


@contextmanager
def diagnosed(alias: str) -> Iterator[None]:
    """Inside, whatever a driver raises on `alias` comes out as one of our errors."""
    try:
        yield
    except (django.db.Error, MySQLdb.Error, psycopg.Error, sqlite3.Error) as error:
        raise diagnose(error, alias) from error
    except TypeError as error:
        # MySQLdb and sqlite3 take the options of an address as arguments.
        if "keyword argument" not in str(error) or connections[alias].connection is not None:
            raise
        raise OPTION[0](OPTION[1].format(place=place(alias), variable=settings.VARIABLES[alias], said=error)) from error


def close(alias: str) -> None:
    """After an error a connection is not to be trusted: the next use opens a new one."""
    if not connections[alias].in_atomic_block:
        connections[alias].close()
