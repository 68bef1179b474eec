"""20 clicks and CLI calls at the same moment: one run, 19 skipped, nothing else."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

from django.db import connections

from apps.orchestration import api
from apps.orchestration.models import Run, State, Task, Trigger
from tests.drills.ground import nothing_left, promise, right_star, succeeded, workers

CALLS = 6


def drill(times: int) -> Iterator[str]:
    asked = times or 20
    last = Run.objects.first()
    before = last.pk if last else 0
    command = [sys.executable, "manage.py", "run_etl", "--no-wait"]
    calls = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(min(CALLS, asked // 2))]
    said = click(asked - len(calls))
    answers = [(*call.communicate(), call.returncode) for call in calls]
    codes = Counter(code for _, _, code in answers)
    runs = Run.objects.filter(pk__gt=before)
    states = Counter(runs.values_list("state", flat=True))
    promise(not said, f"a click raised {said[:1]}")
    promise(set(codes) <= {0, 3} and not any("Traceback" in error for _, error, _ in answers), f"the CLI's answers: {answers}")
    promise(states == {State.QUEUED: 1, State.SKIPPED: asked - 1}, f"{asked} asked, and there are {dict(states)}")
    run = runs.get(state=State.QUEUED)
    promise(not runs.filter(state=State.SKIPPED).exclude(overlaps=run).exists(), "a skipped run does not name the one it overlaps")
    promise(Task.objects.filter(run__in=runs).count() == 1, "a skipped run has tasks")
    workers(1)
    succeeded(run)
    nothing_left()
    right_star()
    yield f"{len(calls)} CLI calls (exit codes {dict(codes)}) and {asked - len(calls)} clicks: {dict(states)}; the one run succeeded"


def click(count: int) -> list[Exception]:
    """So many threads ask at once; what they raised."""
    barrier = threading.Barrier(count)
    raised: list[Exception] = []

    def ask() -> None:
        connections["default"].ensure_connection()
        barrier.wait()
        try:
            api.start_run("full", Trigger.ADMIN, "somebody", queue=True)
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
