"""Beat's scheduler."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from techmarket.liveness import touch_liveness_file


class LivenessScheduler(DatabaseScheduler):
    """Reads the schedules from the database, and touches beat's liveness file at every tick, at most five seconds apart."""

    def tick(self, *args: Any, **options: Any) -> float:
        touch_liveness_file("beat")
        return float(super().tick(*args, **options))
