"""Celery's side: a message comes, the ledger says what it is worth."""

from celery import shared_task
from celery.signals import worker_process_init
from django.db import close_old_connections

from apps.orchestration.models import Run, State
from apps.orchestration.planning import ready
from apps.orchestration.schedules import fire, keep_promises
from apps.orchestration.worker.delivery import advance
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.loop import execute, stop_query_log, worker_name
from apps.orchestration.worker.loop import forget as forget_old
from apps.orchestration.worker.recovery import reap as reap_all
from techmarket.errors import EtlError


@shared_task(name="techmarket.plan")
def plan(task_id: int) -> None:
    perform(task_id)


@shared_task(name="techmarket.extract")
def extract(task_id: int) -> None:
    perform(task_id)


@shared_task(name="techmarket.transform")
def transform(task_id: int) -> None:
    perform(task_id)


@shared_task(name="techmarket.load")
def load(task_id: int) -> None:
    perform(task_id)


@shared_task(name="techmarket.reap")
def reap() -> None:
    reap_all()
    keep_promises()


@shared_task(name="techmarket.forget")
def forget() -> None:
    forget_old()


@shared_task(name="techmarket.scheduled")
def scheduled(name: str) -> None:
    fire(name)


def perform(task_id: int) -> None:
    """One attempt, if nobody else has the task. What ends it is in the ledger; the message has served its purpose either way.

    A message may be older than the ledger: of before a resume, or before a crash that took the last commits of the control database.
    """
    close_old_connections()
    run = Run.objects.filter(tasks=task_id, tasks__state=State.QUEUED).first()
    task = next((task for task in ready(run) if task.pk == task_id), None) if run else None
    if run is None or task is None:
        return
    try:
        with Heartbeat(run.pk, worker_name()) as heart:
            execute(task, heart)
    except EtlError:
        return
    advance(run)


@worker_process_init.connect
def quiet(**kwargs: object) -> None:
    stop_query_log()
