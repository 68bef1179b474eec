"""20 clicks and CLI calls at the same moment: one run starts, 19 are skipped."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

from django.db import connections

from apps.orchestration import api
from apps.orchestration.models import Run, State, Task, Trigger
from tests.drills.harness import require, require_correct_warehouse, require_nothing_left, wait_for_success, workers

CALLS = 6


def drill(times: int) -> Iterator[str]:
    requests = times or 20
    last = Run.objects.first()
    before = last.pk if last else 0
    command = [sys.executable, "manage.py", "run_etl", "--no-wait"]
    calls = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(min(CALLS, requests // 2))]
    errors = click(requests - len(calls))
    results = [(*call.communicate(), call.returncode) for call in calls]
    codes = Counter(code for _, _, code in results)
    runs = Run.objects.filter(pk__gt=before)
    states = Counter(runs.values_list("state", flat=True))
    require(not errors, f"a click raised {errors[:1]}")
    require(set(codes) <= {0, 3} and not any("Traceback" in error for _, error, _ in results), f"the CLI's results: {results}")
    require(states == {State.QUEUED: 1, State.SKIPPED: requests - 1}, f"{requests} requests made {dict(states)}")
    run = runs.get(state=State.QUEUED)
    require(not runs.filter(state=State.SKIPPED).exclude(overlaps=run).exists(), "a skipped run does not name the one it overlaps")
    require(Task.objects.filter(run__in=runs).count() == 1, "a skipped run has tasks")
    workers(1)
    wait_for_success(run)
    require_nothing_left()
    require_correct_warehouse()
    yield f"{len(calls)} CLI calls (exit codes {dict(codes)}) and {requests - len(calls)} clicks: {dict(states)}; the one run succeeded"


def click(count: int) -> list[Exception]:
    """Request a run in `count` threads at once, as the admin does. Return the errors raised."""
    barrier = threading.Barrier(count)
    errors: list[Exception] = []

    def request_run() -> None:
        connections["default"].ensure_connection()
        barrier.wait()
        try:
            api.start_run("full", Trigger.ADMIN, "somebody", queue=True)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=request_run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
