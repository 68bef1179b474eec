"""Beat's scheduler."""

from datetime import timedelta
from typing import Any

import structlog
from django_celery_beat.schedulers import DatabaseScheduler

from techmarket.liveness import touch_liveness_file

log = structlog.get_logger()
TOLERANCE = timedelta(seconds=5)


class LivenessScheduler(DatabaseScheduler):
    """Reads the schedules from the database, and touches beat's liveness file at every tick, at most five seconds apart."""

    def tick(self, *args: Any, **options: Any) -> float:
        touch_liveness_file("beat")
        self.mend_future_instants()
        return float(super().tick(*args, **options))

    def mend_future_instants(self) -> None:
        """Count from now where a wrong clock has dated the last run ahead: the entry would be due only after that time."""
        mended = False
        for entry in self.schedule.values():
            now = entry._default_now()
            if entry.last_run_at and entry.last_run_at > now + TOLERANCE:
                log.warning("last run was in the future", schedule=entry.name, last_run=entry.last_run_at.isoformat())
                entry.last_run_at = entry.model.last_run_at = now
                self._dirty.add(entry.name)
                mended = True
        if mended:
            self._heap: list[Any] = []
            self._heap_invalidated = True
            self.sync()

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        """Send without a time of expiry: a worker whose clock is ahead would discard every message. The ledger decides what is late."""
        entry.options.pop("expires", None)
        return super().apply_async(entry, *args, **options)
