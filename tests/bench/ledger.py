"""Synthetic runs of years, to measure the pages with: `python -m tests.bench.ledger RUNS` on an empty control database."""

import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import batched

from techmarket.environment import set_up_django

if __name__ == "__main__":
    set_up_django()

from django.db import transaction
from django.utils import timezone

from apps.orchestration.models import CheckResult, Mode, Reject, RowCount, Run, Stage, State, Task, Trigger

CHUNK = 1_000  # runs written at once
INTERVAL = timedelta(minutes=10)
SUBJECTS = ("dim_date", "dim_region", "dim_category", "dim_product", "dim_customer", "dim_employee", "fact_sales")
STATES = {State.SUCCEEDED: 90, State.FAILED: 5, State.CANCELLED: 2, State.LOST: 1, State.SKIPPED: 2}  # percent
CAUSE = "The source orders_db does not answer."


def seed_ledger(runs: int) -> None:
    """Write `runs` runs to the ledger: 10 tasks, 3 row counts and 2 checks each, and some rejects."""
    for chunk in batched(generate_runs(runs, random.Random(1), timezone.now()), CHUNK):
        with transaction.atomic():
            write(chunk)


def generate_runs(count: int, draw: random.Random, now: datetime) -> Iterator[Run]:
    """Yield `count` runs, the oldest first, ten minutes apart, until `now`."""
    for number in range(count):
        state = draw.choices(list(STATES), list(STATES.values()))[0]
        began = now - INTERVAL * (count - number)
        yield Run(
            mode=Mode.FULL if number % 50 == 0 else Mode.INCREMENTAL,
            trigger=draw.choice([Trigger.SCHEDULE, Trigger.SCHEDULE, Trigger.CLI, Trigger.ADMIN]),
            requested_by=draw.choice(["techmarket-etl-daily", "olena", "petro"]),
            state=state,
            cause="" if state == State.SUCCEEDED else CAUSE,
            created_at=began,
            started_at=began,
            finished_at=began + timedelta(seconds=draw.randint(2, 500)),
            heartbeat_at=began,
        )


def write(runs: tuple[Run, ...]) -> None:
    Run.objects.bulk_create(runs)
    tasks = Task.objects.bulk_create(task for run in runs for task in tasks_of(run))
    loads = {task.run_id: task for task in tasks if task.stage == Stage.LOAD}
    RowCount.objects.bulk_create(count for run in runs for count in counts_of(run, loads[run.pk]))
    CheckResult.objects.bulk_create(check for run in runs for check in checks_of(run, loads[run.pk]))
    Reject.objects.bulk_create(reject_of(run, loads[run.pk]) for run in runs if has_reject(run))


def has_reject(run: Run) -> bool:
    return run.pk % 4 == 0


def tasks_of(run: Run) -> Iterator[Task]:
    slices = [(Stage.PLAN, ""), *((Stage.EXTRACT, subject) for subject in SUBJECTS), (Stage.TRANSFORM, "fact_sales"), (Stage.LOAD, "")]
    for stage, subject in slices:
        # A task is never skipped, only a run.
        state = State.CANCELLED if run.state == State.SKIPPED else run.state
        yield Task(run=run, stage=stage, subject=subject, state=state, attempt=1, created_at=run.created_at, finished_at=run.finished_at)


def counts_of(run: Run, load: Task) -> Iterator[RowCount]:
    for table in ("dim_product", "dim_customer", "fact_sales"):
        loaded, rejected = 10 + run.pk % 90, int(table == "fact_sales" and has_reject(run))
        rows = {"read": loaded + rejected, "loaded": loaded, "inserted": loaded // 2, "unchanged": loaded - loaded // 2}
        yield RowCount(run=run, task=load, table=table, **rows, rejected=rejected)


def checks_of(run: Run, load: Task) -> Iterator[CheckResult]:
    for name in ("reconciliation lines", "reconciliation net"):
        passed = run.state == State.SUCCEEDED
        yield CheckResult(
            run=run, task=load, name=name, table="fact_sales", passed=passed, blocking=True, expected="0", observed="0" if passed else "1"
        )


def reject_of(run: Run, load: Task) -> Reject:
    raw = {"id": run.pk, "quantity": "0"}
    return Reject(
        run=run,
        task=load,
        table="order_items",
        row_id=str(run.pk),
        rule="bad_quantity",
        params={"least": "1", "greatest": "2147483647"},
        raw=raw,
    )


if __name__ == "__main__":
    seed_ledger(int(sys.argv[1]))
