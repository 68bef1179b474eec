"""What every session with a server is set to, whatever the server, its database or the role has as default, and the look at what it took.

MySQL runs OPTIONS["init_command"] after the login, and after the server's own init_connect. PostgreSQL has no such thing, and a pooler
refuses unknown parameters of the start, so its session is set by the first statement, which also returns what it was set to.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import MySQLdb
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from techmarket.diagnosis import diagnosed, place
from techmarket.encryption import connect_mysql
from techmarket.errors import Misconfigured
from techmarket.messages import message

# --- MySQL and MariaDB ---

TIME_ZONE = "+00:00"
SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
NO_LIMIT = 2**64 - 1
MYSQL = {
    "time_zone": f"'{TIME_ZONE}'",
    "sql_mode": f"'{SQL_MODE}'",
    "sql_select_limit": str(NO_LIMIT),
    "sql_auto_is_null": "0",
    "sql_big_selects": "1",
    "sql_safe_updates": "0",
    "completion_type": "0",
    "foreign_key_checks": "1",
    "unique_checks": "1",
    # Timeouts of the server: what waits for too long is ended by SOURCE_READ_TIMEOUT, whose sentence is ours.
    "wait_timeout": "28800",
    "net_write_timeout": "600",
    "lock_wait_timeout": "86400",
    "innodb_lock_wait_timeout": "50",
}
# MySQL reads the first comment alone, MariaDB the second.
MYSQL_INIT_COMMAND = f"SET {', '.join(f'{name}={value}' for name, value in MYSQL.items())}" + (
    " /*!80000 , max_execution_time=0 */ /*M! , max_statement_time=0 */"
)
MYSQL_LOOK = {
    "time_zone": TIME_ZONE,
    "sql_mode": SQL_MODE,
    "sql_select_limit": str(NO_LIMIT),
    "sql_auto_is_null": "0",
    "character_set_client": "utf8mb4",
    "character_set_connection": "utf8mb4",
    "character_set_results": "utf8mb4",
}
MYSQL_LOOK_SQL = f"SELECT {', '.join(f'@@session.{name}' for name in MYSQL_LOOK)}"

# --- PostgreSQL ---

POSTGRES = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # 0: none. A run has limits of its own, and a load sets those of its transaction.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
POSTGRES_17 = {"transaction_timeout": "0"}
# Only a superuser may set it, and with `replica` no foreign key is checked.
REPLICATION_ROLE = "current_setting('session_replication_role'), quote_ident(current_user), quote_ident(current_database())"
# A commit that a crash may undo would be taken for published. Stronger values than `on` stay.
DURABLE = "set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)"


def set_session(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Set a session that Django has just opened, and refuse it where the server did not take that. Closes it then."""
    if connection.vendor not in ("mysql", "postgresql") or connection.alias not in settings.DATABASES:
        return
    try:
        if connection.vendor == "mysql":
            refuse_other_values(connection.alias, MYSQL_LOOK, look_at_mysql(connection.alias, connection.connection))
        else:
            set_postgres(connection.alias, connection.connection)
    except BaseException:
        connection.close()  # else its next use would find it open
        raise


def open_mysql(alias: str, **parameters: Any) -> MySQLdb.Connection:
    """Open a session of a source beside Django's, set and looked at like one of Django's."""
    with diagnosed(alias):
        connection = connect_mysql(connections[alias], **parameters)
    try:
        refuse_other_values(alias, MYSQL_LOOK, look_at_mysql(alias, connection))
    except BaseException:
        connection.close()
        raise
    return connection


def look_at_mysql(alias: str, connection: Any) -> Iterator[str]:
    """Return the values of MYSQL_LOOK. What the driver converts depends on the connection; as text they are the same."""
    with diagnosed(alias), closing(connection.cursor()) as cursor:
        cursor.execute(MYSQL_LOOK_SQL)
        (row,) = cursor.fetchall()
    return (value.decode() if isinstance(value, bytes) else str(value) for value in row)


def set_postgres(alias: str, connection: Any) -> None:
    wanted = POSTGRES | (POSTGRES_17 if connection.info.server_version >= 170_000 else {})
    values = [f"set_config('{name}', '{value}', false)" for name, value in wanted.items()]
    with diagnosed(alias), connection.cursor() as cursor:
        cursor.execute(f"SELECT {REPLICATION_ROLE}, pg_backend_pid(), {DURABLE}, {', '.join(values)}")
        role, user, database, process, _, *found = cursor.fetchone()
        if process != connection.info.backend_pid:  # a pooler: the next transaction may be another session's
            cursor.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in wanted)}")
            found = cursor.fetchone()
    refuse_other_values(alias, wanted, found)
    if role != "origin":
        raise Misconfigured(message("database.replica_role", place=place(alias), found=role, role=user, database=database))


def refuse_other_values(alias: str, wanted: Mapping[str, str], found: Any) -> None:
    """Raise Misconfigured with the first setting whose value is not the wanted one. The order of words in a list is the server's."""
    for (name, value), other in zip(wanted.items(), found, strict=True):
        if set(value.split(",")) != set(str(other).split(",")):
            raise Misconfigured(
                message(
                    "database.other_setting",
                    place=place(alias),
                    setting=name,
                    found=repr(str(other)),
                    expected=repr(value),
                    variable=settings.VARIABLES[alias],
                )
            )
