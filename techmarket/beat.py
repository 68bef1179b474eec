"""Beat's scheduler: the one of the database, which signs that it lives at every tick, at most five seconds apart."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from techmarket.liveness import touch_liveness_file


class Scheduler(DatabaseScheduler):
    def tick(self, *args: Any, **options: Any) -> float:
        touch_liveness_file("beat")
        return float(super().tick(*args, **options))
