"""Processes beside the one that carries a run out: they take extracts and transforms of its ledger, as workers would.

On two cores they make a first full load of a million orders 1.4 times as fast: MySQL, Python and PostgreSQL no longer wait in turn.
"""

import logging
import select
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import connections

from apps.etl.tables import FACT_TABLES
from apps.orchestration.models import Blame, Run, Stage, State
from techmarket.messages import gettext_noop as _

# Slices of the fact. A process takes 0.8 s to start; fewer slices are done by then.
WORTH_IT = 4
DIED = _("{worker} has died.")
PATIENCE = 15.0  # seconds: a member hears within two that its run has ended
LOOK = 0.05


class Crew:
    """`size` processes with the caller's own. Members start when the run has been planned, and leave when only the load is left."""

    def __init__(self, run: Run, size: int):
        self.run = run
        self.size = size
        self.members: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        deadline = time.monotonic() + PATIENCE
        for member in self.members:
            with suppress(subprocess.TimeoutExpired):
                member.wait(max(0.0, deadline - time.monotonic()))
            member.kill()
            member.communicate()

    def assemble(self) -> None:
        """SQLite takes one writer at a time: there nobody could help."""
        slices = self.run.tasks.filter(stage=Stage.EXTRACT, subject__in=FACT_TABLES).count()
        if slices < WORTH_IT or connections["default"].vendor == "sqlite":
            return
        level = logging.root.manager.disable  # up to which `--quiet` keeps the log silent, here and there
        command = [sys.executable, "-m", "apps.orchestration.worker.process", str(self.run.pk), str(level)]
        for _number in range(self.size - 1):
            # In a session of its own: at Ctrl-C the caller ends the run, and members hear of that from the ledger.
            member = subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
            self.members.append(member)

    def take_back(self) -> None:
        """Queue again what members have left behind that died."""
        for member in self.members:
            if member.poll() is not None:
                for task in self.run.tasks.filter(state=State.RUNNING, worker__endswith=f":{member.pid}"):
                    task.move(State.RUNNING, to=State.QUEUED, claim=None, cause=DIED.format(worker=task.worker), blame=Blame.MACHINE)


def has_work(run: Run) -> bool:
    """For a member: whether anything but the load is still to be done."""
    return run.tasks.exclude(state=State.SUCCEEDED).exclude(stage=Stage.LOAD).exists()


def is_orphan() -> bool:
    """For a member: whether its caller is gone. Nobody writes to the pipe between them; it ends with the caller, however that ends,
    and though nobody may have noticed yet: a dead parent keeps its number until then."""
    return bool(select.select([sys.stdin], [], [], 0)[0])
