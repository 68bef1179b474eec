"""The Celery app with every message sent twice: `celery -A tests.drills.doubled worker`."""

import uuid
from typing import Any

from techmarket.celery import app as celery

send_once = celery.send_task
sent = 0


def send_twice(*arguments: Any, **options: Any) -> Any:
    """Send the same message twice, as a broker that redelivers it."""
    global sent
    sent += 1
    number = str(uuid.uuid4())
    send_once(*arguments, task_id=number, **options)
    return send_once(*arguments, task_id=number, **options)


celery.send_task = send_twice
