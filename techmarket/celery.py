"""The Celery app. Its tasks are those of CELERY_IMPORTS in settings.py."""

import logging.config
import os
import sys

from celery import Celery
from celery.signals import heartbeat_sent, setup_logging
from django.conf import settings

from techmarket.environment import BAD_SETTINGS_EXIT_CODE, invalid, load_settings_or_exit
from techmarket.liveness import touch_liveness_file

load_settings_or_exit()

if "CELERY_BROKER_URL" in os.environ:  # which Celery prefers to the setting, where the options of TLS are translated
    os.environ["CELERY_BROKER_URL"] = settings.CELERY_BROKER_URL
app = Celery("techmarket")
app.config_from_object("django.conf:settings", namespace="CELERY")

if settings.CELERY_BROKER_URL.startswith("filesystem"):
    try:
        for folder in ("messages", "control"):
            (settings.BROKER_DIR / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(invalid("VAR_DIR", f"cannot write there ({error.strerror})", "/var/lib/techmarket"), file=sys.stderr)
        sys.exit(BAD_SETTINGS_EXIT_CODE)


@heartbeat_sent.connect
def record_worker_alive(**kwargs: object) -> None:
    """Touch the liveness file every two seconds, from the loop that receives messages: a worker stuck there does not touch it."""
    touch_liveness_file("worker")


@setup_logging.connect
def configure_logging(loglevel: int | None = None, **kwargs: object) -> None:
    """Replace Celery's own logging, whose lines are neither JSON nor masked."""
    from techmarket import logs  # not above: Celery misreports a package that is missing before load_settings_or_exit()

    logging.config.dictConfig(settings.LOGGING)
    logs.set_levels(settings.RUN_LOGGERS, loglevel or logging.INFO)
