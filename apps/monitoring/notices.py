"""Notices that a scheduled run failed or that its schedule recovered, sent to the log and, where it is set, to NOTIFY_URL."""

import json
from http.client import HTTPException
from typing import Any
from urllib.request import Request

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from apps.orchestration.models import Run, Schedule, State, Trigger
from techmarket.outbound import open_url

log = structlog.get_logger()
RECEIVER_TIMEOUT_S = 5.0


def notify_run_ended(run: Run, **kwargs: object) -> None:
    """Send a notice of a scheduled run that failed, or that is the first to succeed after failures.

    The signal comes once per run, from the process that ended it. The notice goes out when the ledger's transaction is committed.
    """
    if run.trigger != Trigger.SCHEDULE:
        return
    schedules = Schedule.objects.filter(scheduledrun__run=run)
    name = schedules.values_list("pk", flat=True).first() or run.requested_by
    if run.state in (State.FAILED, State.LOST):
        schedules.filter(failing_since=None).update(failing_since=Now())
        transaction.on_commit(lambda: send_notice(build_notice("failed", name, run)))
    elif run.state == State.SUCCEEDED and schedules.exclude(failing_since=None).update(failing_since=None):
        transaction.on_commit(lambda: send_notice(build_notice("recovered", name, run)))


def build_notice(event: str, schedule: str, run: Run) -> dict[str, Any]:
    """Return the notice as a JSON object, with a one-line `text` for receivers that show nothing else."""
    return {
        "event": event,
        "text": f"{schedule} {event}: run {run.pk}" + (f": {run.cause}" if run.cause else ""),
        "schedule": schedule,
        "run": run.pk,
        "mode": run.mode,
        "status": run.state,
        "cause": run.cause,
        "net_by_month": run.revenue.get("by_month", {}),
        "net_by_cause": run.revenue.get("by_cause", []),
        "cause_kind": run.cause_kind,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
    }


def send_notice(notice: dict[str, Any]) -> None:
    """Log the notice and send it to NOTIFY_URL. A receiver that fails is logged without its address, which may hold a secret."""
    (log.error if notice["event"] == "failed" else log.info)(notice["text"], schedule=notice["schedule"], run=notice["run"])
    if not settings.NOTIFY_URL:
        return
    body = json.dumps(notice, ensure_ascii=False).encode()
    try:
        request = Request(settings.NOTIFY_URL, body, {"Content-Type": "application/json"})  # noqa: S310  settings.py accepts only http(s)
        open_url(request, RECEIVER_TIMEOUT_S).close()
    except (OSError, HTTPException, ValueError) as error:
        log.warning("NOTIFY_URL does not accept the notice", run=notice["run"], error=type(error).__name__)
