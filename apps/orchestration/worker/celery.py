"""Execute the task that a message names, if no other worker has claimed it."""

from apps.orchestration.models import Role, Run, State
from apps.orchestration.ready import ready_tasks
from apps.orchestration.worker.delivery import advance_run
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.loop import execute_task
from apps.orchestration.worker.presence import worker_name
from techmarket.errors import EtlError


def execute_delivered_task(task_id: int) -> None:
    """Make one attempt at the task, then advance its run. The ledger records a failure; the message is done either way.

    A message may be older than the ledger: from before a resume, or from before a crash that took the control database's last commits.
    """
    run = Run.objects.filter(tasks=task_id, tasks__state=State.QUEUED).first()
    task = next((task for task in ready_tasks(run) if task.pk == task_id), None) if run else None
    if run is None or task is None:
        return
    try:
        with Heartbeat(run.pk, worker_name(), Role.WORKER) as heartbeat:
            execute_task(task, heartbeat)
    except EtlError:
        return
    advance_run(run)
