"""One worker of a local pool: `python -m apps.orchestration.worker.process RUN LEVEL`. It logs nothing up to LEVEL, as its caller."""

import logging
import sys
import time

from techmarket.environment import set_up

if __name__ == "__main__":
    set_up()

import structlog

from apps.orchestration.models import Run, Stage
from apps.orchestration.planning import ready, seconds_to_wait, urgency
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.loop import execute, stop_query_log, worker_name
from apps.orchestration.worker.pool import LOOK, has_work, is_orphan
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

log = structlog.get_logger("apps.orchestration.worker.process")  # as a program it is `__main__`, of which no level is declared


def take_part(run: Run) -> None:
    """From the last task towards the first, where the caller is; until nothing is left to take, or the run has ended, or the caller."""
    stop_query_log()
    with Heartbeat(run.pk, worker_name()) as heart:
        while not is_orphan() and has_work(run):
            heart.check()
            tasks = [task for task in ready(run) if task.stage != Stage.LOAD and not seconds_to_wait([task])]
            if not tasks or not execute(min(tasks, key=lambda task: (*urgency(task), -task.pk)), heart):
                time.sleep(LOOK)


def main(run_id: str, level: str) -> None:
    """Of what ends the run the ledger tells, and the caller; what ends this process alone costs the run some speed. Neither is for
    the caller's stderr: only a collector of logs hears of it."""
    logging.disable(int(level))
    try:
        with diagnosed("default"):
            take_part(Run.objects.get(pk=int(run_id)))
    except Exception as error:
        log.info("member has left", run=int(run_id), cause=str(error), exc_info=not isinstance(error, EtlError))
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
