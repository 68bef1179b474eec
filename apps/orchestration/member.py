"""One member of a crew, a process of its own: `python -m apps.orchestration.member RUN`."""

import sys
import time

from techmarket.environment import set_up

if __name__ == "__main__":
    set_up()

from apps.orchestration.crew import LOOK, has_work, is_orphan
from apps.orchestration.heartbeat import Heartbeat
from apps.orchestration.models import Run, Stage
from apps.orchestration.planning import ready, seconds_to_wait, urgency
from apps.orchestration.runner import execute, stop_query_log, worker_name
from techmarket.errors import EtlError


def take_part(run: Run) -> None:
    """From the last task towards the first, where the caller is; until nothing is left to take, or the run has ended, or the caller."""
    stop_query_log()
    with Heartbeat(run.pk, worker_name()) as heart:
        while not is_orphan() and has_work(run):
            heart.check()
            tasks = [task for task in ready(run) if task.stage != Stage.LOAD and not seconds_to_wait([task])]
            if not tasks or not execute(min(tasks, key=lambda task: (*urgency(task), -task.pk)), heart):
                time.sleep(LOOK)


if __name__ == "__main__":
    try:
        take_part(Run.objects.get(pk=int(sys.argv[1])))
    except EtlError:
        sys.exit(1)  # the ledger has it
