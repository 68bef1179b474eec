"""The word that goes out when a scheduled run fails, and when its schedule recovers: to the log, and to NOTIFY_URL where that is set."""

import json
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from apps.orchestration.models import Run, Schedule, State, Trigger

log = structlog.get_logger()
TIMEOUT = 5.0  # seconds that a receiver may take


def send_notice(run: Run, **kwargs: object) -> None:
    """Of a scheduled run that has just ended: that it failed, or that it is the first to succeed after failures.

    Called by whoever ended it, which is one. The notice goes out once the ledger's transaction is committed.
    """
    if run.trigger != Trigger.SCHEDULE:
        return
    schedules = Schedule.objects.filter(scheduledrun__run=run)
    name = schedules.values_list("pk", flat=True).first() or run.requested_by
    if run.state in (State.FAILED, State.LOST):
        schedules.filter(failing_since=None).update(failing_since=Now())
        transaction.on_commit(lambda: send(notice("failed", name, run)))
    elif run.state == State.SUCCEEDED and schedules.exclude(failing_since=None).update(failing_since=None):
        transaction.on_commit(lambda: send(notice("recovered", name, run)))


def notice(event: str, schedule: str, run: Run) -> dict[str, Any]:
    """`text` says it in one line, for receivers that show nothing else."""
    return {
        "event": event,
        "text": f"{schedule} {event}: run {run.pk}" + (f": {run.cause}" if run.cause else ""),
        "schedule": schedule,
        "run": run.pk,
        "mode": run.mode,
        "status": run.state,
        "cause": run.cause,
        "cause_kind": run.cause_kind,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
    }


def send(words: dict[str, Any]) -> None:
    """A receiver that is away changes nothing: the log and the ledger have it. Its address may be a secret, and is not logged."""
    (log.error if words["event"] == "failed" else log.info)(words["text"], schedule=words["schedule"], run=words["run"])
    if not settings.NOTIFY_URL:
        return
    body = json.dumps(words, ensure_ascii=False).encode()
    try:
        request = Request(settings.NOTIFY_URL, body, {"Content-Type": "application/json"})  # noqa: S310  settings.py takes http alone
        urlopen(request, timeout=TIMEOUT).close()  # noqa: S310
    except (OSError, HTTPException, ValueError) as error:
        log.warning("NOTIFY_URL does not take the notice", run=words["run"], error=type(error).__name__)
