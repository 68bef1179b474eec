"""Execute the task that a message names, if no other worker has claimed it."""

from apps.orchestration.models import Role, State, Task
from apps.orchestration.stored import delete_stored_leftovers
from apps.orchestration.worker.delivery import advance_run
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.loop import execute_task
from apps.orchestration.worker.presence import worker_name
from techmarket.errors import EtlError


def execute_delivered_task(task_id: int) -> None:
    """Make one attempt at the task, then advance its run. The ledger records a failure; the message is done either way.

    A message may be older than the ledger: from before a resume, or from before a crash that took the control database's last commits.
    """
    task = Task.objects.filter(pk=task_id, state=State.QUEUED, waits_for=0).select_related("run").first()
    if task is None:
        return
    run = task.run
    try:
        with Heartbeat(run.pk, worker_name(), Role.WORKER) as heartbeat:
            execute_task(task, heartbeat)
    except EtlError:
        return
    advance_run(run)
    if run.state == State.SUCCEEDED:
        delete_stored_leftovers()
