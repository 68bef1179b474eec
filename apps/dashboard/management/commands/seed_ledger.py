"""manage.py seed_ledger: years of runs, to measure the pages with. Nothing of it was ever carried out."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from apps.orchestration.models import CheckResult, Mode, Reject, RowCount, Run, Stage, State, Task, Trigger
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.diagnosis import diagnosed
from techmarket.errors import Usage

CHUNK = 1_000  # runs written at once
EVERY = timedelta(minutes=10)
SUBJECTS = ("dim_date", "dim_region", "dim_category", "dim_product", "dim_customer", "dim_employee", "fact_sales")
STATES = {State.SUCCEEDED: 90, State.FAILED: 5, State.CANCELLED: 2, State.LOST: 1, State.SKIPPED: 2}  # percent
CAUSE = "The source orders_db does not answer."


class Command(BaseCommand):
    help = (
        "Fill the ledger with runs that never were, to measure the pages with: 10 tasks, 3 row counts and 2 checks each, and some rejects. "
        "Exit codes: 0 done, 2 the control database has runs already, 4 it is unreachable or not migrated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--runs", type=whole_number(1, 10_000_000), default=100_000, metavar="N", help="how many (default 100000)")
        parser.add_argument("--force", action="store_true", help="also beside runs that are there")

    def handle(self, **options: Any) -> None:
        with diagnosed("default"):
            if Run.objects.exists() and not options["force"]:
                raise Usage("The control database has runs. Seed an empty one, or add to it with --force.")
            for chunk in batched(drawn(options["runs"], random.Random(1), timezone.now()), CHUNK):  # noqa: S311
                with transaction.atomic():
                    write(chunk)
        if options["verbosity"]:
            self.stdout.write(f"{options['runs']} runs")


def drawn(count: int, draw: random.Random, now: datetime) -> Iterator[Run]:
    """The oldest first, one after another until now."""
    for number in range(count):
        state = draw.choices(list(STATES), list(STATES.values()))[0]
        began = now - EVERY * (count - number)
        yield Run(
            mode=Mode.FULL if number % 50 == 0 else Mode.INCREMENTAL,
            trigger=draw.choice([Trigger.SCHEDULE, Trigger.SCHEDULE, Trigger.CLI, Trigger.ADMIN]),
            asked_by=draw.choice(["techmarket-etl-daily", "olena", "petro"]),
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
        # A task is never skipped: the run that was has none at work.
        state = State.CANCELLED if run.state == State.SKIPPED else run.state
        yield Task(run=run, stage=stage, subject=subject, state=state, attempt=1, created_at=run.created_at, finished_at=run.finished_at)


def counts_of(run: Run, load: Task) -> Iterator[RowCount]:
    for table in ("dim_product", "dim_customer", "fact_sales"):
        loaded, rejected = 10 + run.pk % 90, int(table == "fact_sales" and has_reject(run))
        rows = {"read": loaded + rejected, "loaded": loaded, "inserted": loaded // 2, "unchanged": loaded - loaded // 2}
        yield RowCount(run=run, task=load, table=table, **rows, rejected=rejected)


def checks_of(run: Run, load: Task) -> Iterator[CheckResult]:
    for name in ("reconciliation lines", "reconciliation net"):
        good = run.state == State.SUCCEEDED
        yield CheckResult(
            run=run, task=load, name=name, table="fact_sales", passed=good, blocking=True, expected="0", observed="0" if good else "1"
        )


def reject_of(run: Run, load: Task) -> Reject:
    raw = {"id": run.pk, "quantity": "0"}
    return Reject(
        run=run, task=load, table="order_items", row_id=str(run.pk), rule="bad_quantity", reason="quantity is less than 1", raw=raw
    )
