"""What a task leaves in the ledger: batches, counts, rejects and check results, all at once with its success."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from apps.etl.checks import Result
from apps.orchestration.batches import prepare_batches, save_batch
from apps.orchestration.models import CheckResult, Reject, RowCount, Run, Stage, State, Task
from apps.orchestration.planning import Plan
from apps.orchestration.ready import save_tasks
from apps.orchestration.worker.stages import Landed
from techmarket.errors import ClaimLost

if TYPE_CHECKING:
    from apps.etl.load.revenue import Revenue

REJECTS_PER_INSERT = 1_000  # a table that is dirty throughout has as many rejects as rows


def land(task: Task, landed: Landed) -> None:
    """Save what the task gives and record its success in one transaction. Raises ClaimLost."""
    run = task.run
    batches = prepare_batches(task, landed.batches)
    with transaction.atomic():
        if not task.succeed():
            raise ClaimLost
        task.checks.all().delete()  # of an earlier attempt, which they failed: nothing else is kept of one
        for batch, table in batches:
            save_batch(batch, table)
        RowCount.objects.bulk_create(count_rows(task, landed))
        rejects = [Reject(run=run, task=task, **vars(row)) for row in landed.rejects]
        Reject.objects.bulk_create(rejects, batch_size=REJECTS_PER_INSERT)
        CheckResult.objects.bulk_create(check_rows(task, landed.checks))
        if landed.plan:
            save_plan(run, landed.plan)
        save_revenue(run, landed.revenues)
        if landed.is_unchanged:
            skip_transform(task)  # first: it releases preparations, which all release before the load
        task.count_finished(sum(table.num_rows for table in landed.batches.values()))


def skip_transform(extract: Task) -> None:
    """Record the success of the transform on the same slice: to claim and land a task that has nothing to do takes 0.03 s."""
    transform = Task.objects.get(run=extract.run_id, stage=Stage.TRANSFORM, subject=extract.subject, low=extract.low)
    if transform.transition(State.QUEUED, to=State.SUCCEEDED, worker=extract.worker, started_at=Now(), finished_at=Now()):
        transform.count_finished(0)


def save_revenue(run: Run, revenues: "Mapping[str, Revenue]") -> None:
    """Save the revenue of the fact that holds it, of a load that has one."""
    for revenue in revenues.values():
        if revenue.changes:
            changes = [vars(change) | {"net": str(change.net)} for change in revenue.changes]
            Run.objects.filter(pk=run.pk).update(revenue={"by_month": revenue.net_by_month(), "by_cause": changes})


def save_plan(run: Run, plan: Plan) -> None:
    fields = ("mode", "window_start", "high_water_mark", "based_on", "found")
    for name in fields:
        setattr(run, name, getattr(plan, name))
    run.save(update_fields=fields)
    save_tasks(run, plan.tasks)


def count_rows(task: Task, landed: Landed) -> list[RowCount]:
    read = [RowCount(run=task.run, task=task, table=table, **vars(counts)) for table, counts in landed.counts.items()]
    written = [RowCount(run=task.run, task=task, table=table, **counts.by_name()) for table, counts in landed.written.items()]
    return read + written


def check_rows(task: Task, results: Iterable[Result]) -> list[CheckResult]:
    return [CheckResult(run=task.run, task=task, **vars(result)) for result in results]
