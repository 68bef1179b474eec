"""The warehouse session of a load and its transactions, with the settings that loads need."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from django.db import OperationalError, connections, transaction

from apps.etl.interrupts import interruptible
from apps.etl.session import Session, SessionId
from apps.etl.warehouse import WAREHOUSE
from apps.warehouse.own_schema import fix_schema
from techmarket.driver_errors import is_locked

LOCK_TIMEOUT = "5s"
# Who begins to read a table while another session waits to lock it has to wait behind it: so wait shortly, and often.
SHORT_LOCK_TIMEOUT, PAUSE_S, ATTEMPTS = "50ms", 1, 300

OnSession = Callable[[SessionId | None], None]  # called with the session's name
BeforeCommit = Callable[[], AbstractContextManager[None]]  # entered before the commit, left after it


@contextmanager
def warehouse_session(on_session: OnSession) -> Iterator[Any]:
    """Yield a cursor for several transactions. The session is named for the ledger, and another thread can interrupt it."""
    with connections[WAREHOUSE].cursor() as cursor:
        session = Session(cursor)
        on_session(session.id)
        with interruptible(session.stop):
            yield cursor


@contextmanager
def warehouse_transaction(cursor: Any, before_commit: BeforeCommit = nullcontext) -> Iterator[None]:
    """Open a transaction. `before_commit` is entered last and left after the commit, so that its locks cover the commit."""
    with ExitStack() as until_committed, transaction.atomic(using=WAREHOUSE):
        if cursor.db.vendor == "postgresql":
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")  # sorts a key of two million rows in memory
            cursor.execute("SET LOCAL jit = off")  # compiling took 10 ms per slice
            fix_schema(cursor)
        try:
            yield
        except Exception:
            close_if_lost(cursor)
            raise
        until_committed.enter_context(before_commit())


def lock_from_readers(cursor: Any, tables: Collection[str]) -> None:
    """Lock these tables for what no reader may see half done, once no reader is left: a dump may take minutes. Raises OperationalError.

    PostgreSQL alone.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic(using=WAREHOUSE):
                cursor.execute(f"SET LOCAL lock_timeout = '{SHORT_LOCK_TIMEOUT}'")
                cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
            break
        except OperationalError as error:
            if attempt == ATTEMPTS or not is_locked(error):
                raise
        cursor.execute("SELECT pg_sleep(%s)", [PAUSE_S])  # which a cancellation interrupts
    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


def close_if_lost(cursor: Any) -> None:
    """Close a lost connection inside the transaction: on leaving it, Django would wait for a new one to roll back with."""
    if cursor.db.vendor == "postgresql" and cursor.db.connection is not None and cursor.db.connection.closed:
        cursor.db.close()
