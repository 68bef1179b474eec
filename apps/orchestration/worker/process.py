"""One worker of a local pool: `python -m apps.orchestration.worker.process RUN LEVEL`. Like its parent it logs nothing up to LEVEL."""

import logging
import select
import sys

from techmarket.environment import set_up_django

if __name__ == "__main__":
    set_up_django()

import structlog

from apps.orchestration.models import UNFINISHED, WAITS_FOR_GROUPS, Group, Run
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.loop import POLL_S, Worker, stop_query_log
from apps.orchestration.worker.presence import worker_name
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

log = structlog.get_logger("apps.orchestration.worker.process")  # as a program it is `__main__`, which has no level of its own


class PoolWorker(Worker):
    """Takes extracts and transforms until only the load remains."""

    idle_s = POLL_S
    last_group = max(WAITS_FOR_GROUPS[Group.LOAD])

    def is_done(self) -> bool:
        return not self.run.tasks.filter(group__lte=self.last_group, state__in=UNFINISHED).exists()

    def take_turn(self) -> bool:
        return not is_orphaned() and super().take_turn()


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
