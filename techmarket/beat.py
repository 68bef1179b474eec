"""Beat's scheduler: the one of the database, which signs that it lives at every tick, at most five seconds apart."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from techmarket.liveness import sign


class Scheduler(DatabaseScheduler):
    def tick(self, *args: Any, **options: Any) -> float:
        sign("beat")
        return float(super().tick(*args, **options))
