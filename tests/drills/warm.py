"""SIGTERM a worker in the middle of a run: its current tasks end, the others stay queued, nothing is lost."""

import signal
import time
from collections.abc import Iterator

from apps.orchestration.models import State
from tests.drills.harness import (
    Program,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_beat,
    start_queued_run,
    wait_for_success,
    wait_until,
    workers,
)

EXIT_TIMEOUT_S = 15


def drill(times: int) -> Iterator[str]:
    rounds = times or 5
    start_beat()
    exits, gaps, unfinished = [], [], []
    for number in range(rounds):
        (worker,) = workers(1)
        run = start_queued_run("full")
        wait_until(
            lambda run=run, number=number: run.tasks.filter(state=State.SUCCEEDED).count() > 5 * number, "the run is under way", every=0.002
        )
        worker.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = worker.process.wait(EXIT_TIMEOUT_S)
        exits.append(time.monotonic() - began)
        Program.alive.remove(worker)
        require(code == 0, f"the worker ended with {code}")
        require(not run.tasks.filter(state=State.RUNNING).exists(), "a task was left running")
        unfinished.append(run.tasks.exclude(state=State.SUCCEEDED).count())
        (next_worker,) = workers(1)
        began = time.monotonic()
        wait_for_success(run)
        gaps.append(time.monotonic() - began)
        require(not run.tasks.filter(attempt__gt=1).exists(), "a task had to be done again")
        next_worker.kill()
    require_nothing_left()
    require_correct_warehouse()
    yield f"{rounds} warm shutdowns: ended in {max(exits):.1f} s at most, with {unfinished} tasks left"
    yield f"another worker finished them in {max(gaps):.1f} s at most; no task executed twice, none lost"
