"""Liveness files of the worker and of beat, which each touches every few seconds. deploy/healthcheck.py and `ping` read their age."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings


def liveness_file(role: str) -> Path:
    return Path(settings.VAR_DIR) / "alive" / role


def touch_liveness_file(role: str) -> None:
    """Record that `role`, "worker" or "beat", is alive now."""
    # A full disk must not end the worker. The file then grows old, and the healthcheck reports that.
    with suppress(OSError):
        file = liveness_file(role)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def read_liveness_time(role: str) -> datetime | None:
    """Return when `role` was last alive, in UTC, or None if it never ran with this VAR_DIR."""
    try:
        return datetime.fromtimestamp(liveness_file(role).stat().st_mtime, UTC)
    except OSError:
        return None
