"""Real workers on real servers: a short version of `make drill`, and the races that it found."""

import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from apps.orchestration.models import Mode, Run, Stage, State, Task, Trigger
from apps.orchestration.worker.recovery import reap
from tests.conftest import ROOT
from tests.servers import one_at_a_time

on_servers = pytest.mark.skipif(not os.environ.get("TEST_REDIS_URL"), reason="needs servers")


@on_servers
@pytest.mark.long
@pytest.mark.parametrize(("drills", "times"), [("kill twice", 2), ("clicks", 8), ("rotate", 1)])
def test_drills_hold(drills: str, times: int) -> None:
    """Run drills on the databases that the environment names, not on the test databases: workers are separate processes."""
    command = [sys.executable, "-m", "tests.drills", *drills.split(), "--times", str(times)]
    with one_at_a_time("drills"):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.django_db(databases=["default", "dwh"])
def test_stalled_task_of_an_ended_run_is_lost() -> None:
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.API, requested_by="test", state=State.FAILED)
    then = timezone.now() - timedelta(minutes=2)
    silent = {"worker": "dead:1", "started_at": then, "heartbeat_at": then, "attempt": 1}
    task = Task.objects.create(run=run, stage=Stage.EXTRACT, state=State.RUNNING, **silent)
    reap()
    task.refresh_from_db()
    run.refresh_from_db()
    assert (task.state, run.state) == (State.LOST, State.FAILED)


@on_servers
@pytest.mark.django_db(transaction=True, databases=["default"])
def test_second_of_two_concurrent_claims_is_refused() -> None:
    """The second finds the task queued, waits for the first to commit, and must check the state again."""
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.API, requested_by="test")
    task = Task.objects.create(run=run, stage=Stage.PLAN)
    results = []

    def claim_second() -> None:
        results.append(Task.objects.get(pk=task.pk).claim_for("second"))
        connections["default"].close()

    second = threading.Thread(target=claim_second)
    with transaction.atomic():
        assert Task.objects.get(pk=task.pk).claim_for("first")
        second.start()
        second.join(1)
        assert second.is_alive()
    second.join()
    task.refresh_from_db()
    assert (results, task.worker, task.attempt) == ([False], "first", 1)
