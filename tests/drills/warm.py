"""SIGTERM of a worker in the middle of a run: the current tasks end, the rest is handed back, nothing is lost."""

import signal
import time
from collections.abc import Iterator

from apps.orchestration.models import State
from tests.drills.ground import Program, nothing_left, promise, right_star, start, start_beat, succeeded, until, workers

LONGEST = 15


def drill(times: int) -> Iterator[str]:
    rounds = times or 5
    start_beat()
    exits, gaps, left = [], [], []
    for number in range(rounds):
        (worker,) = workers(1)
        run = start("full")
        until(
            lambda run=run, number=number: run.tasks.filter(state=State.SUCCEEDED).count() > 5 * number, "the run is under way", every=0.002
        )
        worker.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = worker.process.wait(LONGEST)
        exits.append(time.monotonic() - began)
        Program.alive.remove(worker)
        promise(code == 0, f"the worker ended with {code}")
        promise(not run.tasks.filter(state=State.RUNNING).exists(), "a task was left running")
        left.append(run.tasks.exclude(state=State.SUCCEEDED).count())
        (next_worker,) = workers(1)
        began = time.monotonic()
        succeeded(run)
        gaps.append(time.monotonic() - began)
        promise(not run.tasks.exclude(attempt=1).exists(), "a task had to be done again")
        next_worker.kill()
    nothing_left()
    right_star()
    yield f"{rounds} warm shutdowns: ended in {max(exits):.1f} s at most, with {left} tasks left"
    yield f"another worker did these in {max(gaps):.1f} s at most; every task once, none lost"
