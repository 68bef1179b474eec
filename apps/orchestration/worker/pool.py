"""The local worker pool: processes beside the one that executes a run, which take its extracts and transforms.

On two cores they make a first full load of a million orders 1.4 times as fast: MySQL, Python and PostgreSQL no longer wait in turn.
"""

import logging
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import connections

from apps.etl.tables import FACT_TABLES
from apps.orchestration.models import Run, Stage, State
from apps.orchestration.worker.presence import worker_name
from techmarket.messages import message

MIN_SLICES = 4  # of the fact: a process takes 0.8 s to start, and fewer slices are done by then
EXIT_TIMEOUT_S = 15.0  # a worker notices within two seconds that its run has ended


class LocalWorkerPool:
    """Up to `size` processes, the caller's own included. The others start once the run is planned, and leave when only the load remains."""

    def __init__(self, run: Run, size: int):
        self.run = run
        self.size = size
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.communicate()

    def start_workers(self) -> None:
        """Start the other processes if the run is large enough. SQLite allows one writer at a time, so there they would not help."""
        slices = self.run.tasks.filter(stage=Stage.EXTRACT, subject__in=FACT_TABLES).count()
        if slices < MIN_SLICES or connections["default"].vendor == "sqlite":
            return
        level = logging.root.manager.disable  # up to which `--quiet` silences the log, here and in the workers
        command = [sys.executable, "-m", "apps.orchestration.worker.process", str(self.run.pk), str(level)]
        for _number in range(self.size - 1):
            # In a new session: at Ctrl-C the caller ends the run, and workers learn that from the ledger.
            process = subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
            self.processes.append(process)

    def requeue_orphaned_tasks(self) -> None:
        """Queue the tasks of dead workers again."""
        for process in self.processes:
            if process.poll() is not None:
                for task in self.run.tasks.filter(state=State.RUNNING, worker=worker_name(process.pid)):
                    task.requeue(message("task.worker_died", worker=task.worker))
