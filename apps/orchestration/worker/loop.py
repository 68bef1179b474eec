"""The one worker loop: choose a task of a run, claim it, execute it, record its result.

The command's process and its local pool differ only in which tasks they take and when they stop; for Celery's workers the message has
chosen the task. What is recorded about a task is recorded only while its claim is still the one it was executed under.
"""

import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import connections, transaction
from django.db.models import Q

from apps.orchestration.models import ACTIVE, UNFINISHED, CheckResult, Group, Run, Stage, State, Task, Trigger
from apps.orchestration.outcome import cancelled_by_signal, check_publication, end_attempt, end_run, log_end
from apps.orchestration.ready import claim_next_task, retry_delay
from apps.orchestration.worker.heartbeat import LISTEN_INTERVAL_S, Heartbeat
from apps.orchestration.worker.landing import check_rows, land, save_revenue
from apps.orchestration.worker.presence import worker_name
from apps.orchestration.worker.stages import STAGES, Landed
from techmarket.commands import signals_heeded
from techmarket.connections import LOST, close_connections, close_dead_connections
from techmarket.diagnosis import close, database_message, diagnosed
from techmarket.errors import ChecksRefused, ClaimLost, EtlError, StalePlan, StartOver, Unreachable

log = structlog.get_logger()
POLL_S = 0.05  # between two queries for a task, where other workers share the run

Listener = Callable[[Task, int, bool], None]  # the task; how many rows more; whether it has ended


def silent(task: Task, rows: int, ended: bool) -> None:
    """A listener that does nothing."""


class Worker:
    """Executes tasks of one run, one after another, until `is_done`."""

    idle_s = LISTEN_INTERVAL_S
    last_group = Group.LOAD  # of the tasks that it executes

    def __init__(self, run: Run, heartbeat: Heartbeat, listener: Listener = silent):
        self.run = run
        self.heartbeat = heartbeat
        self.listener = listener

    def is_done(self) -> bool:
        """Return True to stop; called when there was nothing to execute."""
        raise NotImplementedError

    def after(self, task: Task) -> None:
        """Called when this worker has executed a task."""

    def wait(self) -> None:
        """Called when there was nothing to execute."""
        sleep(self.idle_s, self.heartbeat)

    def work(self) -> None:
        """Execute tasks until there are none. A lost connection to the ledger between two of them costs an attempt of the worker's own."""
        lost = 0
        while True:
            try:
                if not self.take_turn():
                    return
            except LOST as error:
                lost += 1
                if lost >= settings.ETL_ATTEMPTS:
                    raise
                log.warning("the control database closed a connection", attempt=lost, cause=str(error))
                self.wait_for_ledger()

    def take_turn(self) -> bool:
        """Execute a task or wait for one. Return False where there is none left."""
        self.heartbeat.check()
        task = claim_next_task(self.run, worker_name(), self.last_group)
        if task:
            execute_claimed(task, self.heartbeat, self.listener)
            self.after(task)
        elif self.is_done():
            return False
        else:
            self.wait()
        return True

    def wait_for_ledger(self) -> None:
        """Queue the task again in which the ledger was lost, as soon as it answers. Gives up when the reaper would act."""
        until = time.monotonic() + settings.ETL_LOST_AFTER_SECONDS
        while True:
            close_connections()
            try:
                for task in self.run.tasks.filter(state=State.RUNNING, worker=worker_name()):
                    task.requeue(database_message("database.connection_lost", "default", ""))
                return
            except LOST:
                if time.monotonic() > until:
                    raise
            sleep(LISTEN_INTERVAL_S, self.heartbeat)


def sleep(seconds: float, heartbeat: Heartbeat) -> None:
    """Sleep, and raise as soon as something ends the work."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        heartbeat.check()
        time.sleep(min(0.5, max(0.0, until - time.monotonic())))


def execute_task(task: Task, heartbeat: Heartbeat, listener: Listener = silent) -> bool:
    """Make one attempt at this task. Return False where another worker has it, it waits for others, or its run is over."""
    if not task.claim_for(worker_name()):
        return False
    execute_claimed(task, heartbeat, listener)
    return True


def execute_claimed(task: Task, heartbeat: Heartbeat, listener: Listener) -> None:
    """Make the attempt for which the task has been claimed.

    A transient failure queues it again with a delay, while it has attempts left. Any other failure ends the run with it, and is raised.
    """
    task.run.start()
    with structlog.contextvars.bound_contextvars(**task.labels):
        attempt_task(task, heartbeat, listener)


def attempt_task(task: Task, heartbeat: Heartbeat, listener: Listener) -> None:
    heartbeat.claim = task.claim

    def report(table: str, rows: int) -> None:
        heartbeat.check()
        listener(task, rows, False)

    try:
        with signals_heeded(), diagnosed("default"):
            close_dead_connections()
            landed = STAGES[task.stage](task, report)
            if task.stage != Stage.LOAD:  # a load has checked before its commit; now it is too late to end it
                heartbeat.check()
            close_dead_connections()  # the ledger's was idle for as long as the stage took
            land(task, landed)
    except KeyboardInterrupt as error:
        close("default")
        end_attempt(task, cancelled_by_signal(error))
        raise
    except Exception as error:
        heartbeat.claim = None
        close_connections()  # every alias: with a dead one the next attempts would fail alike
        found = check_publication(task, find_cause(error, heartbeat))
        if found is not None:
            record_failure(task, found)
    else:
        log_success(task, landed)
        listener(task, 0, True)
    finally:
        heartbeat.claim = None


def log_success(task: Task, landed: Landed) -> None:
    """Log one line for the task, and for a load one for each table: never one for a row."""
    for table, written in landed.written.items():
        log.info("table written", table=table, **written.by_name())
    counts = landed.counts.get(task.subject)
    rows = vars(counts) if counts else {"rows": sum(batch.num_rows for batch in landed.batches.values())}
    log.info("task succeeded", seconds=task.seconds, attempt=task.attempt, worker=task.worker, **rows)


def find_cause(error: Exception, heartbeat: Heartbeat) -> Exception:
    """Return what really ended the attempt: a claim is refused to a cancelled run, too, before the heartbeat has seen the cancellation."""
    return heartbeat.cause or (heartbeat.listen() if isinstance(error, ClaimLost) else None) or error


def record_failure(task: Task, error: BaseException) -> None:
    """Queue the task again if another attempt may help; else record the failure on the task and its run, and raise it."""
    if is_worth_retrying(error, task) and task.attempt < settings.ETL_ATTEMPTS:
        retry(task, error)
        log.warning("task will be retried", attempt=task.attempt, cause=str(error))
        return
    if isinstance(error, StalePlan) and plan_again(task, error):
        log.warning("run will be planned again", cause=str(error))
        return
    ended = task.end(error, where=task.holds_claim)
    if ended and isinstance(error, ChecksRefused):
        task.checks.all().delete()
        CheckResult.objects.bulk_create(check_rows(task, error.results))
        save_revenue(task.run, error.revenues)
    if ended:
        log_end("task", task, error, attempt=task.attempt)
    end_run(task.run, error)
    raise error


def plan_again(load: Task, error: StalePlan) -> bool:
    """Queue the plan once more, while it has attempts left, and delete the other tasks with all that they landed.

    The attempt of the load becomes one of the plan: it was that which failed. What a person has accepted was the former plan's.
    """
    run = load.run
    with transaction.atomic():
        plan = run.tasks.get(stage=Stage.PLAN)
        made = plan.attempt
        if made >= settings.ETL_ATTEMPTS or not load.retry_after(timedelta(), error) or not plan.start_over():
            return False
        load.attempts.update(task=plan)
        run.tasks.filter(pk=plan.pk).update(attempt=made)
        run.tasks.exclude(pk=plan.pk).delete()
        run.task_counts.exclude(stage=Stage.PLAN).delete()
        if not run.window_end:
            run.window_start = None  # the plan had set it
        run.found = {}
        run.accepted_by = run.accepted_because = ""
        run.save(update_fields=["window_start", "found", "accepted_by", "accepted_because"])
    return True


def retry(task: Task, error: BaseException) -> None:
    """Queue the task again, after a delay or after the tasks that are to be done again: these at once, lest it starts before them."""
    if not isinstance(error, StartOver):
        task.retry_after(retry_delay(task), error)
        return
    with transaction.atomic():
        if task.retry_after(timedelta(), error):
            for each in error.tasks:
                each.start_over()


def is_worth_retrying(error: BaseException, task: Task) -> bool:
    """Return True for a transient error, and where a server does not answer that did during planning: it is being restarted.

    Nobody waits for a scheduled run: it is retried also where a server does not answer from the beginning.
    """
    is_expected = task.stage != Stage.PLAN or task.run.trigger == Trigger.SCHEDULE
    return (is_expected and isinstance(error, Unreachable)) or (isinstance(error, EtlError) and error.transient)


def has_unfinished_work(run: Run) -> bool:
    """Return True if a task waits, or the run is active and not done. One query for both: between two, a worker may start the next task."""
    unfinished = run.tasks.filter(state__in=UNFINISHED)
    return unfinished.filter(Q(state=State.QUEUED) | Q(run__state__in=ACTIVE)).exists()


def stop_query_log() -> None:
    """Stop Django from keeping the text of every query where DEBUG is true, batches of megabytes among them."""
    for alias in settings.DATABASES:
        connections[alias].make_debug_cursor = connections[alias].make_cursor  # type: ignore[method-assign, assignment]
