"""Execute a whole run in the process that requested it, with a local worker pool beside it."""

from apps.orchestration.models import Run, Stage, State, Task
from apps.orchestration.outcome import cancelled_by_signal, end_run, finish_run
from apps.orchestration.ready import priority, ready_tasks, seconds_until_ready
from apps.orchestration.worker.heartbeat import LISTEN_INTERVAL_S, Heartbeat
from apps.orchestration.worker.loop import POLL_S, Listener, Worker, has_unfinished_work, silent, sleep, stop_query_log
from apps.orchestration.worker.pool import LocalWorkerPool
from apps.orchestration.worker.presence import worker_name
from techmarket.commands import signals_heeded
from techmarket.diagnosis import diagnosed


class LocalWorker(Worker):
    """Takes every task, the most urgent first, and waits for those that are to be retried."""

    def __init__(self, run: Run, heartbeat: Heartbeat, listener: Listener, pool: LocalWorkerPool):
        super().__init__(run, heartbeat, listener)
        self.pool = pool
        self.reported: set[int] = set()

    def is_done(self) -> bool:
        return not has_unfinished_work(self.run)

    def choose_task(self) -> Task | None:
        tasks = ready_tasks(self.run)
        if not tasks:
            return None
        sleep(seconds_until_ready(tasks), self.heartbeat)
        return min(tasks, key=lambda task: (task.not_before is not None, task.not_before, *priority(task), task.pk))

    def after(self, task: Task) -> None:
        if task.stage == Stage.PLAN:
            self.pool.start_workers()
        self.report_others()

    def wait(self) -> None:
        self.pool.requeue_orphaned_tasks()
        self.report_others()
        sleep(POLL_S if self.pool.processes else LISTEN_INTERVAL_S, self.heartbeat)

    def report_others(self) -> None:
        if self.pool.processes:
            report_tasks_of_others(self.run, self.listener, self.reported)


def execute_run(run: Run, listener: Listener = silent, processes: int = 1) -> None:
    """Execute the whole run here, task after task, to its final state. Raises what stopped it, after recording it.

    With more than one process, a local worker pool shares its extracts and transforms.
    """
    stop_query_log()
    with LocalWorkerPool(run, processes) as pool:
        try:
            with signals_heeded(), diagnosed("default"), Heartbeat(run.pk, worker_name()) as heartbeat:
                LocalWorker(run, heartbeat, listener, pool).work()
                finish_run(run)
        except KeyboardInterrupt as error:
            end_run(run, cancelled_by_signal(error))
            raise
        except Exception as error:
            end_run(run, error)
            raise


def report_tasks_of_others(run: Run, listener: Listener, reported: set[int]) -> None:
    """Call `listener` for the tasks that other workers have finished since the last call; `reported` collects their ids."""
    for task in run.tasks.filter(state=State.SUCCEEDED).exclude(worker=worker_name()).exclude(pk__in=reported):
        reported.add(task.pk)
        listener(task, sum(task.batches.values_list("rows", flat=True)), True)
