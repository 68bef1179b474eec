"""Start a real Celery worker on the test databases, in its own process. It receives the messages of the live server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connections

READY_TIMEOUT_S = 300.0


def get_database_urls() -> dict[str, str]:
    """Return the environment variables with the URLs of the test databases."""
    return {variable: get_database_url(alias, variable) for alias, variable in settings.VARIABLES.items()}


def get_database_url(alias: str, variable: str) -> str:
    name = str(connections[alias].settings_dict["NAME"])
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ[variable])._replace(path=f"/{name}").geturl()


@contextmanager
def start_worker(log: Path, **env: str) -> Iterator[None]:
    """Start a worker, wait until it is ready, and kill it with its children at the end."""
    command = [sys.executable, "-m", "celery", "-A", "techmarket", "worker", "--loglevel", "info", "--concurrency", "1", "-n", "browser@%h"]
    passed_on = {"VAR_DIR": str(settings.VAR_DIR), "CELERY_BROKER_URL": settings.CELERY_BROKER_URL}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            cwd=settings.BASE_DIR,
            env=os.environ | get_database_urls() | passed_on | env,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            wait_until_ready(process, log)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while " ready." not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
