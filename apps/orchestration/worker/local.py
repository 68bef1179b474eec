"""Execute a whole run in the process that requested it, with a local worker pool beside it."""

from collections import Counter, defaultdict

from apps.orchestration.models import Run, Stage, State, Task
from apps.orchestration.outcome import cancelled_by_signal, end_run, finish_run
from apps.orchestration.stored import delete_stored_leftovers
from apps.orchestration.worker.heartbeat import LISTEN_INTERVAL_S, Heartbeat
from apps.orchestration.worker.loop import POLL_S, Listener, Worker, has_unfinished_work, silent, sleep, stop_query_log
from apps.orchestration.worker.pool import LocalWorkerPool
from apps.orchestration.worker.presence import worker_name
from techmarket.commands import signals_heeded
from techmarket.diagnosis import diagnosed


class Reported(defaultdict[tuple[str, str], Counter[str]]):
    """Numbers of tasks and rows that a listener knows of, by stage and table."""

    def __init__(self) -> None:
        super().__init__(Counter)


class LocalWorker(Worker):
    """Takes every task, and waits for those that are to be retried."""

    def __init__(self, run: Run, heartbeat: Heartbeat, listener: Listener, pool: LocalWorkerPool):
        super().__init__(run, heartbeat, listener)
        self.pool = pool
        self.reported = Reported()

    def is_done(self) -> bool:
        return not has_unfinished_work(self.run)

    def after(self, task: Task) -> None:
        if task.stage == Stage.PLAN:
            self.pool.start_workers()
        if task.state == State.SUCCEEDED and self.pool.processes:  # the listener knows of it
            self.reported[task.stage, task.subject] += Counter(tasks=1, rows=task.landed_rows)
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
    delete_stored_leftovers()


def report_tasks_of_others(run: Run, listener: Listener, reported: Reported) -> None:
    """Call `listener` for the tasks that have been finished since the last call, by their counts: not one of them is read.

    `reported` collects what it was called for. A task that starts over is not reported again.
    """
    for count in run.task_counts.all():
        before = reported[count.stage, count.subject]
        task = Task(run=run, stage=count.stage, subject=count.subject)
        rows = max(0, count.rows - before["rows"])
        for number in range(count.finished - before["tasks"]):
            listener(task, rows if number == 0 else 0, True)
        before |= Counter(tasks=count.finished, rows=count.rows)
