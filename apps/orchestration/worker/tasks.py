"""Celery's tasks: each message names a ledger task, and the ledger decides whether it is executed."""

from typing import Any

import structlog
from celery import shared_task
from celery.signals import beat_init, worker_process_init, worker_ready
from django.core.management import call_command

from apps.audit.settings_seen import record_settings_once
from apps.orchestration import duties, erasures, hosts, outcome, schedules
from apps.orchestration.models import DutyName, Role
from apps.orchestration.window import MAX_DAYS
from apps.orchestration.worker import presence, recovery
from techmarket.connections import close_connections

log = structlog.get_logger()
LARGEST_ID = 2**63 - 1


@shared_task(name="techmarket.plan")
def plan(task_id: int) -> None:
    execute(task_id)


@shared_task(name="techmarket.extract")
def extract(task_id: int) -> None:
    execute(task_id)


@shared_task(name="techmarket.transform")
def transform(task_id: int) -> None:
    execute(task_id)


@shared_task(name="techmarket.prepare")
def prepare(task_id: int) -> None:
    execute(task_id)


@shared_task(name="techmarket.load")
def load(task_id: int) -> None:
    execute(task_id)


@shared_task(name="techmarket.reap")
def reap() -> None:
    """Recover, and start what the schedules have missed: the one also where the other fails."""
    hosts.measure_clock(Role.WORKER)
    try:
        recovery.reap()
        duties.record_done(DutyName.REAP)
    finally:
        schedules.fire_missed_schedules()
        duties.record_done(DutyName.SCHEDULES)


@shared_task(name="techmarket.forget")
def forget() -> None:
    from apps.orchestration.stored import delete_stored_leftovers  # beat imports this module, and never needs the batch store

    outcome.delete_old_details()
    delete_stored_leftovers()
    presence.delete_old_files()
    hosts.delete_old_clocks()
    call_command("clearsessions")
    erasures.erase_pending()
    duties.record_done(DutyName.FORGET)


@shared_task(name="techmarket.erase")
def erase() -> None:
    erasures.erase_pending()


@shared_task(name="techmarket.scheduled")
def scheduled(name: str) -> None:
    if name in list(schedules.MODES):  # a list takes what cannot be hashed, too
        schedules.fire(name)
    else:
        drop_message(name)


@shared_task(name="techmarket.reconcile")
def reconcile(days: int | None) -> None:
    """Compare the last days of the shop's calendar with the sources, or everything."""
    from apps.orchestration.proof import prove  # beat imports this module, and needs no Arrow
    from apps.orchestration.window import Window

    if days is None or is_number(days, MAX_DAYS):
        prove(Window.last_days(days) if days else Window.everything())
    else:
        drop_message(days)


def execute(task_id: int) -> None:
    from apps.orchestration.worker.celery import execute_delivered_task  # beat imports this module, and needs no pandas

    if is_number(task_id, LARGEST_ID):
        close_connections()
        execute_delivered_task(task_id)
    else:
        drop_message(task_id)


def is_number(value: Any, highest: int) -> bool:
    return type(value) is int and 0 <= value <= highest


def drop_message(content: Any) -> None:
    """Log a message that no program of ours sends: whoever can write to the broker may send anything."""
    log.warning("a message of the broker was dropped", content=repr(content)[:100])


@worker_ready.connect
def record_worker_settings(**kwargs: object) -> None:
    record_settings_once("worker")


@beat_init.connect
def record_beat_settings(**kwargs: object) -> None:
    record_settings_once("beat")


@worker_process_init.connect
def prepare_worker_process(**kwargs: object) -> None:
    from apps.orchestration.worker.loop import stop_query_log  # as above

    stop_query_log()
