"""The length of publishing transactions, seen from PostgreSQL's side."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from tests.bench.measure import Failed

LOOK_S = 0.02  # between two looks: a length is at most so much short, and looking takes 2 % of a core
# The transaction that publishes holds the advisory lock of loads until it has committed, whichever process or machine it is of.
LOAD_LOCK = 7_301_015  # apps.etl.load.publish.LOAD_LOCK
PUBLISHING = f"""
SELECT pid || ' ' || xact_start, EXTRACT(EPOCH FROM clock_timestamp() - xact_start)::float FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = {LOAD_LOCK} AND objsubid = 1 AND xact_start IS NOT NULL
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Publication:
    """Transactions that held the lock, by their seconds so far. One that fits between two looks is not seen."""

    transactions: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def longest(self) -> float:
        """Return the length of the longest transaction, in seconds; of one that was too short to be seen, the time between looks."""
        return max(self.transactions.values(), default=LOOK_S)


@contextmanager
def watch_publication() -> Iterator[Publication]:
    """Watch the warehouse's transactions until the block is left. Raises Failed where the server stopped answering."""
    seen, done = Publication(), threading.Event()
    with psycopg.connect(os.environ["DWH_URL"], autocommit=True) as connection:
        thread = threading.Thread(target=look_until, args=(done, connection, seen))
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            thread.join()
    if seen.error:
        raise Failed(f"PostgreSQL no longer says who publishes: {seen.error}")


def look_until(done: threading.Event, connection: "psycopg.Connection[tuple[str, float]]", seen: Publication) -> None:
    try:
        while not done.wait(LOOK_S):
            seen.transactions.update(connection.execute(PUBLISHING.encode()).fetchall())
    except psycopg.Error as error:
        seen.error = str(error)
