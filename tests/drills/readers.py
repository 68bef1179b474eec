"""Readers that poll the warehouse during 50 loads see only a complete old or a complete new state."""

import threading
import time
from collections.abc import Iterator

from django.db import connections

from tests.drills.harness import (
    WarehouseState,
    change_shop,
    execute_here,
    query,
    read_state,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_queued_run,
    wait_for_success,
    workers,
)

POLL_S = 0.02
READERS = 3


class Reader(threading.Thread):
    """Polls the warehouse; records the states seen and the longest wait."""

    def __init__(self, done: threading.Event):
        super().__init__(daemon=True)
        self.done = done
        self.polls = 0
        self.seen: set[WarehouseState] = set()
        self.longest = 0.0

    def run(self) -> None:
        while not self.done.wait(POLL_S):
            began = time.monotonic()
            self.seen.add(read_state())
            self.longest = max(self.longest, time.monotonic() - began)
            self.polls += 1
        connections.close_all()


def drill(times: int) -> Iterator[str]:
    loads = times or 50
    execute_here("full")
    workers(1)
    known = {read_state()}
    done = threading.Event()
    readers = [Reader(done) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    first = query("dwh", "SELECT count(*) FROM etl_load")[0][0]
    for number in range(loads):
        change_shop(seed=1_000 + number, count=10)
        wait_for_success(start_queued_run("full" if number % 2 else "incremental"))
        known.add(read_state())
    done.set()
    for reader in readers:
        reader.join()
    seen = {seen_state for reader in readers for seen_state in reader.seen}
    require(not seen - known, f"{len(seen - known)} states are neither old nor new, as {sorted(seen - known)[:1]}")
    require(query("dwh", "SELECT count(*) FROM etl_load")[0][0] == first + loads, "a load was not published once")
    require_nothing_left()
    require_correct_warehouse()
    yield f"{loads} loads, {sum(reader.polls for reader in readers)} polls by {READERS} readers: {len(seen)} states seen, all complete"
    yield f"longest wait of a reader {max(reader.longest for reader in readers) * 1000:.0f} ms"
