"""A real Celery worker as a process on the test databases; it receives the messages that the live server sends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db import connections

START_TIMEOUT_S = 300.0


def addresses() -> dict[str, str]:
    """Return the variables that name the test databases, with the names that Django gave them."""
    return {variable: address(alias, variable) for alias, variable in settings.VARIABLES.items()}


def address(alias: str, variable: str) -> str:
    name = str(connections[alias].settings_dict["NAME"])
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{quote(name)}"
    return urlsplit(os.environ[variable])._replace(path=f"/{name}").geturl()


@contextmanager
def worker(log: Path, prefix: Sequence[str] = (), **env: str) -> Iterator[None]:
    """Start a worker, behind the words of `prefix`, wait until it is ready, and kill it with its children at the end."""
    celery = [*prefix, sys.executable, "-m", "celery", "-A", "techmarket"]
    command = [*celery, "worker", "--loglevel", "info", "--concurrency", "1", "-n", "browser@%h"]
    passed_on = {"VAR_DIR": str(settings.VAR_DIR), "CELERY_BROKER_URL": settings.CELERY_BROKER_URL}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            cwd=settings.BASE_DIR,
            env=os.environ | addresses() | passed_on | env,
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
    deadline = time.monotonic() + START_TIMEOUT_S
    while " ready." not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
