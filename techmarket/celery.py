"""The Celery app. Its tasks are in apps/orchestration/worker/tasks.py."""

import logging.config

from celery import Celery
from celery.signals import heartbeat_sent, setup_logging
from django.conf import settings

from techmarket import logs
from techmarket.environment import refuse_at_start
from techmarket.liveness import sign

refuse_at_start()

app = Celery("techmarket")
app.config_from_object("django.conf:settings", namespace="CELERY")

if settings.CELERY_BROKER_URL.startswith("filesystem"):
    for folder in ("messages", "control"):
        (settings.BROKER_DIR / folder).mkdir(parents=True, exist_ok=True)


@heartbeat_sent.connect
def worker_lives(**kwargs: object) -> None:
    """Every two seconds, from the loop that also takes the messages: a worker that takes none does not sign."""
    sign("worker")


@setup_logging.connect
def log_as_ours(loglevel: int | None = None, **kwargs: object) -> None:
    """Else Celery would set up lines of its own, neither JSON nor masked."""
    logging.config.dictConfig(settings.LOGGING)
    logs.chatty(loglevel or logging.INFO)
