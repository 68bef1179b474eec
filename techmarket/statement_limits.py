"""How long a statement of a page may take. Runs, commands and exports have no such limit.

Nothing is set in a session, which a pooler may hand to a run, and nothing is sent beside the statement: the limit travels with it.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import MySQLdb
import psycopg
from django.conf import settings
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from techmarket.diagnosis import place
from techmarket.errors import Transient
from techmarket.messages import message

# MariaDB's max_statement_time and MySQL's max_execution_time, of which the latter says 1317 where it ends a subquery.
MYSQL_CODES = (1969, 3024, 1317)
SQLITE_NAMES = ("SQLITE_INTERRUPT", "SQLITE_BUSY")  # the latter after the wait for a lock that the address sets
SQLITE_STEPS = 10_000  # of its virtual machine between two looks at the clock: about a millisecond
TRANSACTION_CONTROL = ("SAVEPOINT", "RELEASE", "ROLLBACK")  # a transaction that has failed takes no SET before its ROLLBACK TO
Execute = Callable[..., Any]
# The timeouts that this request has met; None where there is no limit.
met: ContextVar["list[PageTimeout] | None"] = ContextVar("met", default=None)


class PageTimeout(Transient):
    """A statement of a page took too long, and was ended."""


@contextmanager
def limited_statements() -> "Iterator[list[PageTimeout]]":
    """Limit what this thread asks the databases inside. Yields a list that gets the timeouts."""
    timeouts: list[PageTimeout] = []
    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(limit_statement))
            stack.callback(stop_watching, connection)
        stack.callback(met.reset, met.set(timeouts))
        yield timeouts


@contextmanager
def unlimited_statements() -> Iterator[None]:
    """Lift the limit inside: an export takes as long as its rows."""
    token = met.set(None)
    for connection in connections.all(initialized_only=True):
        stop_watching(connection)
    try:
        yield
    finally:
        met.reset(token)


def limit_statement(execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute with the limit, as Django's execute_wrapper. Raises PageTimeout.

    A cursor of the server has none: its statement begins with DECLARE. Pages read by such a cursor only what they have just listed.
    """
    connection, cursor, timeouts = context["connection"], context["cursor"].cursor, met.get()
    if timeouts is None or many or getattr(cursor, "name", None) or not isinstance(sql, str):
        return execute(sql, params, many, context)
    try:
        return EXECUTORS[connection.vendor](execute, sql, params, context)
    except OperationalError as error:
        if not has_timed_out(error):
            raise
        text = message("database.page_timeout", place=place(connection.alias), seconds=find_limit(connection))
        timeouts.append(PageTimeout(text))
        raise timeouts[-1] from error


def execute_on_postgresql(execute: Execute, sql: str, params: Any, context: dict[str, Any]) -> Any:
    """Send the limit and the statement as one message, which PostgreSQL executes in one transaction: the limit ends with it."""
    if sql.startswith(TRANSACTION_CONTROL):
        return execute(sql, params, False, context)
    milliseconds = find_limit(context["connection"]) * 1000
    result = execute(f"SET LOCAL statement_timeout = {milliseconds}; {sql}", params, False, context)
    context["cursor"].cursor.nextset()
    return result


def execute_on_mysql(execute: Execute, sql: str, params: Any, context: dict[str, Any]) -> Any:
    """Send the limit in the statement: MySQL takes the first comment for none of its own, MariaDB the second."""
    seconds = find_limit(context["connection"])
    verb, _, rest = sql.partition(" ")
    if verb.upper() == "SELECT":
        sql = f"/*M! SET STATEMENT max_statement_time={seconds} FOR */ SELECT /*+ MAX_EXECUTION_TIME({seconds * 1000}) */ {rest}"
    return execute(sql, params, False, context)


def execute_on_sqlite(execute: Execute, sql: str, params: Any, context: dict[str, Any]) -> Any:
    """Let SQLite look at the clock while it executes the statement, and while its rows are fetched."""
    connection = context["connection"]
    deadline = time.monotonic() + find_limit(connection)
    connection.connection.set_progress_handler(lambda: time.monotonic() > deadline, SQLITE_STEPS)
    return execute(sql, params, False, context)


EXECUTORS: dict[str, Execute] = {"postgresql": execute_on_postgresql, "mysql": execute_on_mysql, "sqlite": execute_on_sqlite}


def stop_watching(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor == "sqlite" and connection.connection is not None:
        connection.connection.set_progress_handler(None, 0)


def find_limit(connection: BaseDatabaseWrapper) -> int:
    """Return the seconds that a page may ask this database for one statement."""
    limit: int = settings.SOURCE_PAGE_TIMEOUT_SECONDS if connection.alias in settings.SOURCES else settings.PAGE_TIMEOUT_SECONDS
    return limit


def has_timed_out(error: BaseException) -> bool:
    """Return True if a database ended the statement, or its wait for a lock, because of its time. SQLite may say so at a row."""
    cause = error.__cause__
    if isinstance(cause, MySQLdb.Error):
        return cause.args[:1] != () and cause.args[0] in MYSQL_CODES
    return isinstance(cause, psycopg.errors.QueryCanceled) or (
        isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorname", "") in SQLITE_NAMES
    )
