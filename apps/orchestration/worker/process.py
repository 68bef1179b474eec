"""One worker of a local pool: `python -m apps.orchestration.worker.process RUN LEVEL`. Like its parent it logs nothing up to LEVEL."""

import logging
import select
import sys

from techmarket.environment import set_up_django

if __name__ == "__main__":
    set_up_django()

import structlog

from apps.orchestration.models import Run, Stage, State, Task
from apps.orchestration.ready import priority
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.loop import POLL_S, Worker, stop_query_log
from apps.orchestration.worker.presence import worker_name
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

log = structlog.get_logger("apps.orchestration.worker.process")  # as a program it is `__main__`, which has no level of its own


class PoolWorker(Worker):
    """Takes extracts and transforms from the last to the first, while the parent starts at the first, until only the load remains."""

    idle_s = POLL_S

    def is_done(self) -> bool:
        return is_orphaned() or not self.run.tasks.exclude(state=State.SUCCEEDED).exclude(stage=Stage.LOAD).exists()

    def choose_task(self) -> Task | None:
        if is_orphaned():
            return None
        tasks = [task for task in self.candidates() if task.stage != Stage.LOAD]
        return min(tasks, key=lambda task: (*priority(task), -task.pk)) if tasks else None


def is_orphaned() -> bool:
    """Return True if the parent is gone. It never writes to the pipe; the pipe closes at once when it dies, while its process id remains
    until it is reaped."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main(run_id: str, level: str) -> None:
    """Work for the run. The parent reports how the run ends; a failure of this process alone costs only speed.
    Neither belongs on the parent's stderr: only a log collector receives it."""
    logging.disable(int(level))
    stop_query_log()
    try:
        with diagnosed("default"), Heartbeat(int(run_id), worker_name()) as heartbeat:
            PoolWorker(Run.objects.get(pk=int(run_id)), heartbeat).work()
    except Exception as error:
        log.info("worker left", run=int(run_id), cause=str(error), exc_info=not isinstance(error, EtlError))
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
