"""A reader of one table, in a process of its own: `python -m tests.bench.reader [TABLE]` reads until its input is closed.

Then it prints when each of its statements began, by the machine's monotonic clock, and the seconds that it took. Without a table it
reads none: what it then waits for is the machine, not a lock.
"""

import json
import os
import select
import sys
import time

import psycopg

PAUSE_S = 0.01  # between two statements: a wait is seen at most so much short


def read_until_closed(look: bytes) -> list[tuple[float, float]]:
    """Execute the statement again and again. Return the samples: when it began, and its seconds."""
    samples = []
    with psycopg.connect(os.environ["DWH_URL"], autocommit=True, prepare_threshold=None) as connection:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            began = time.monotonic()
            connection.execute(look).fetchall()
            samples.append((began, time.monotonic() - began))
    return samples


if __name__ == "__main__":
    statement = f"SELECT 1 FROM {sys.argv[1]} LIMIT 1" if sys.argv[1:] else "SELECT 1"
    try:
        print(json.dumps(read_until_closed(statement.encode())))
    except psycopg.Error as error:
        sys.exit(str(error).splitlines()[0])
