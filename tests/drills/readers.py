"""Readers who poll the star during 50 loads see only a whole old or a whole new state."""

import threading
import time
from collections.abc import Iterator

from django.db import connections

from tests.drills.ground import Seen, change_shop, nothing_left, promise, right_star, rows, run_here, start, state, succeeded, workers

POLL = 0.02
READERS = 3


class Reader(threading.Thread):
    """What it saw, and how long it waited for that at most."""

    def __init__(self, done: threading.Event):
        super().__init__(daemon=True)
        self.done = done
        self.looks = 0
        self.seen: set[Seen] = set()
        self.longest = 0.0

    def run(self) -> None:
        while not self.done.wait(POLL):
            began = time.monotonic()
            self.seen.add(state())
            self.longest = max(self.longest, time.monotonic() - began)
            self.looks += 1
        connections.close_all()


def drill(times: int) -> Iterator[str]:
    loads = times or 50
    run_here("full")
    workers(1)
    known = {state()}
    done = threading.Event()
    readers = [Reader(done) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    first = rows("dwh", "SELECT count(*) FROM etl_load")[0][0]
    for number in range(loads):
        change_shop(seed=1_000 + number, count=10)
        succeeded(start("full" if number % 2 else "incremental"))
        known.add(state())
    done.set()
    for reader in readers:
        reader.join()
    seen = {look for reader in readers for look in reader.seen}
    promise(not seen - known, f"{len(seen - known)} states are neither old nor new, as {sorted(seen - known)[:1]}")
    promise(rows("dwh", "SELECT count(*) FROM etl_load")[0][0] == first + loads, "a load was not published once")
    nothing_left()
    right_star()
    yield f"{loads} loads, {sum(reader.looks for reader in readers)} looks of {READERS} readers: {len(seen)} states seen, all whole"
    yield f"longest wait of a reader {max(reader.longest for reader in readers) * 1000:.0f} ms"
