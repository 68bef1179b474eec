"""Execute the task that a message names, if no other worker has claimed it."""

from apps.orchestration.models import Run, State, Task
from apps.orchestration.ready import ready_tasks
from apps.orchestration.worker.delivery import advance_run
from apps.orchestration.worker.heartbeat import Heartbeat, worker_name
from apps.orchestration.worker.loop import Worker
from techmarket.errors import EtlError


class CeleryWorker(Worker):
    """Makes one attempt at one task; the messages of the run's other tasks reach whichever workers there are."""

    def __init__(self, task: Task, heartbeat: Heartbeat):
        super().__init__(task.run, heartbeat)
        self.task: Task | None = task

    def is_done(self) -> bool:
        return self.task is None

    def choose_task(self) -> Task | None:
        task, self.task = self.task, None
        return task

    def wait(self) -> None:
        """Another worker has the task: there is nothing to wait for."""


def execute_delivered_task(task_id: int) -> None:
    """Make one attempt at the task, then advance its run. The ledger records a failure; the message is done either way.

    A message may be older than the ledger: from before a resume, or from before a crash that took the control database's last commits.
    """
    run = Run.objects.filter(tasks=task_id, tasks__state=State.QUEUED).first()
    task = next((task for task in ready_tasks(run) if task.pk == task_id), None) if run else None
    if run is None or task is None:
        return
    try:
        with Heartbeat(run.pk, worker_name()) as heartbeat:
            CeleryWorker(task, heartbeat).work()
    except EtlError:
        return
    advance_run(run)
