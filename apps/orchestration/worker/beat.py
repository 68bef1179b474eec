"""Beat's scheduler."""

from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django_celery_beat.schedulers import DatabaseScheduler

from apps.orchestration.hosts import measure_clock
from apps.orchestration.models import Role
from techmarket.liveness import touch_liveness_file

log = structlog.get_logger()
TOLERANCE = timedelta(seconds=5)
REAP = "techmarket.reap"


class LivenessScheduler(DatabaseScheduler):
    """Reads the schedules from the database, and touches beat's liveness file at every tick, at most five seconds apart.

    It decides by its host's clock when to send: intervals are right by any clock, and the workers ask the control database what is due.
    """

    def tick(self, *args: Any, **options: Any) -> float:
        touch_liveness_file("beat")
        measure_clock(Role.BEAT)
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
        if entry.task == REAP:
            self.discard_waiting_reaps()
        return super().apply_async(entry, *args, **options)

    def discard_waiting_reaps(self) -> None:
        """Empty the reaper's queue: while no worker runs, one message waits there, not one for every ETL_REAP_SECONDS."""
        with self.app.connection_for_write() as connection:
            try:
                connection.channel().queue_purge(settings.REAP_QUEUE)
            except (OSError, *connection.connection_errors, *connection.channel_errors) as error:
                log.info("broker unavailable, the reaper's queue was not emptied", error=str(error))
