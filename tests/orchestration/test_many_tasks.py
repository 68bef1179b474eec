"""A run of very many tasks: what it costs to claim, to finish and to send one does not grow with their number."""

import importlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
from django.apps import apps as installed
from django.db import connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from apps.orchestration import tally
from apps.orchestration.models import Executor, Group, Run, Stage, State, Task, TaskCount
from apps.orchestration.outcome import finish_run
from apps.orchestration.ready import CLAIM, DIALECTS, UNDELAYED, PlannedTask, claim_next_task, ready_tasks, save_tasks
from apps.orchestration.worker.delivery import MESSAGES_AHEAD, send_ready_tasks
from apps.orchestration.worker.landing import land
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import Landed
from techmarket.errors import BadData
from tests.bench.claims import Times, execute_tasks, start_planned_run
from tests.orchestration.harness import FakeBroker, ago, finish, fresh, run_concurrently

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
ON_SERVERS = bool(os.environ.get("TEST_REDIS_URL"))
SAMPLE = 100


@pytest.fixture
def run(transactional_db: None) -> Run:
    """Return a planned run of 200 tasks and a load: 80 slices of sales, 20 of products."""
    return start_planned_run(200, Times())


def count_waits(run: Run) -> dict[int, int]:
    """Return what each task waits for by the states of all of them: the slow rule, which the counts must agree with."""
    rows = list(run.tasks.exclude(stage=Stage.PLAN))
    unfinished = [task for task in rows if task.state != State.SUCCEEDED and task.stage != Stage.LOAD]
    kinds = {(task.stage, task.subject) for task in unfinished}
    slices = {(task.subject, task.low) for task in unfinished if task.stage == Stage.EXTRACT}

    def count(task: Task) -> int:
        if task.stage == Stage.EXTRACT:
            return int(task.subject == "dim_product" and (Stage.EXTRACT, "fact_sales") in kinds)
        return len(kinds) if task.stage == Stage.LOAD else int((task.subject, task.low) in slices)

    return {task.pk: count(task) for task in rows}


def require_right_counts(run: Run) -> None:
    assert dict(run.tasks.exclude(stage=Stage.PLAN).values_list("pk", "waits_for")) == count_waits(run)
    for count in run.task_counts.all():
        same = run.tasks.filter(stage=count.stage, subject=count.subject)
        assert (count.tasks, count.finished) == (same.count(), same.filter(state=State.SUCCEEDED).count()), count


def leave_transforms(run: Run, number: int) -> None:
    """Let everything before the load succeed but the last transforms of sales, by a few statements."""
    last = list(run.tasks.filter(group=Group.FACT_TRANSFORM).order_by("-pk")[:number].values_list("pk", flat=True))
    run.tasks.filter(group__lt=Group.LOAD).update(waits_for=0)
    run.tasks.filter(group__lt=Group.LOAD).exclude(pk__in=last).update(state=State.SUCCEEDED)
    run.task_counts.exclude(stage=Stage.LOAD).update(unfinished=0)
    run.task_counts.filter(stage=Stage.TRANSFORM, subject="fact_sales").update(unfinished=number)
    run.tasks.filter(group=Group.LOAD).update(waits_for=1)


def cost_of(work: Iterator[Any], count: int) -> tuple[float, int]:
    """Return processor seconds and queries of the next `count` tasks. Wall-clock time would measure the machine's other work."""
    with CaptureQueriesContext(connections["default"]) as queries:
        began = time.process_time()
        assert len(list(islice(work, count))) == count
        return time.process_time() - began, len(queries)


def explain_claim(run: Run) -> str:
    """Return the plan by which the next task is found; on PostgreSQL with the rows that were read."""
    connection = connections["default"]
    sql = CLAIM.replace("{when}", UNDELAYED).format(**DIALECTS[connection.vendor])
    select = sql[sql.index("SELECT") : sql.rindex(")")]
    explain = "EXPLAIN (ANALYZE, COSTS OFF) " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        cursor.execute(explain + select, [run.pk, Group.LOAD])
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def mislead_planner() -> None:
    """Leave the statistics that autovacuum leaves while a plan is saved: of many pages, and of the few rows that are committed."""
    if ON_SERVERS:
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE pg_class SET relpages = 2300, reltuples = 2 WHERE oid = 'orchestration_task'::regclass")


@pytest.mark.long
def test_cost_of_a_task_does_not_grow() -> None:
    """100 000 tasks of one run on PostgreSQL, 20 000 on SQLite: the first hundred and the last cost the same."""
    mislead_planner()
    run = start_planned_run(100_000 if ON_SERVERS else 20_000, Times())
    work = execute_tasks(run, Times())
    first, plans = cost_of(work, SAMPLE), [explain_claim(run)]
    leave_transforms(run, SAMPLE)
    last, plans = cost_of(work, SAMPLE - 1), [*plans, explain_claim(run)]
    assert last[1] <= first[1] <= 20 * SAMPLE, "queries"
    assert last[0] < 3 * first[0] + 0.5, "processor seconds"
    for plan in plans:
        assert "task_ready" in plan and "Sort" not in plan and "TEMP B-TREE" not in plan, plan
        assert "Rows Removed" not in plan and "Seq Scan on orchestration_task" not in plan, plan
    assert [task.stage for task in work] == [Stage.TRANSFORM, Stage.LOAD]
    finish_run(run)
    assert fresh(run).state == State.SUCCEEDED
    progress = tally.progress(run)
    assert progress.done == progress.tasks == run.tasks.count()


def test_counts_agree_with_the_states_after_every_task(run: Run) -> None:
    require_right_counts(run)
    order = []
    for number, task in enumerate(execute_tasks(run, Times())):
        order.append((task.stage, task.subject))
        if number % 20 == 0:
            require_right_counts(run)
    require_right_counts(run)
    stages = [
        (Stage.EXTRACT, "fact_sales"),
        (Stage.EXTRACT, "dim_product"),
        (Stage.TRANSFORM, "dim_product"),
        (Stage.TRANSFORM, "fact_sales"),
    ]
    assert list(dict.fromkeys(order)) == [*stages, (Stage.LOAD, "")] and len(order) == 201


def test_task_that_starts_over_is_waited_for_again(run: Run) -> None:
    """An order moved while the run was read: its slice is read again, and nothing else; the load waits for it."""
    work = execute_tasks(run, Times())
    assert len(list(islice(work, 200))) == 200
    load = claim_next_task(run, "test")
    assert load and load.stage == Stage.LOAD
    for task in run.tasks.filter(subject="fact_sales", low=5_000):
        assert task.start_over()
    require_right_counts(run)
    assert load.retry_after(run.created_at - run.created_at, BadData("Rows moved."))
    assert [(task.stage, task.low) for task in execute_tasks(run, Times())] == [
        (Stage.EXTRACT, 5_000),
        (Stage.TRANSFORM, 5_000),
        (Stage.LOAD, None),
    ]
    require_right_counts(run)


def test_task_that_dies_while_it_lands_counts_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    task = claim_next_task(run, "test")
    assert task

    def die(task: Task, unfinished: int, rows: int) -> None:
        TaskCount.objects.filter(run=task.run_id, stage=task.stage, subject=task.subject).update(unfinished=0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Task, "count", die)
        with pytest.raises(KeyboardInterrupt):
            land(task, Landed())
    assert fresh(task).state == State.RUNNING
    require_right_counts(run)


def test_resumed_run_continues_where_it_was(run: Run) -> None:
    assert len(list(islice(execute_tasks(run, Times()), 90))) == 90
    task = claim_next_task(run, "test")
    assert task and task.end(BadData("Row 7 is green.")) and run.end(BadData("Row 7 is green."))
    assert claim_next_task(run, "test") is None, "the run is over"
    assert run.requeue(Executor.LOCAL, "test")
    require_right_counts(run)
    assert len(list(execute_tasks(run, Times()))) == 111


def test_next_task_is_claimed_as_a_known_one_is(run: Run) -> None:
    """The statement that claims the next one sets the columns that `Task.claim_for` sets, and like it obeys a cancellation."""
    run.tasks.update(cause="lost", cause_kind="machine", finished_at=ago(hours=1), attempt=1)
    known, expected = claim_next_task(run, "test"), ready_tasks(run).first()
    assert known and expected and expected.claim_for("test")
    differing = {"id", "claim", "low", "high", "started_at", "heartbeat_at", "created_at"}
    names = [field.attname for field in Task._meta.concrete_fields if field.attname not in differing]
    assert [getattr(known, name) for name in names] == [getattr(expected, name) for name in names]
    assert known.claim and ago(minutes=1) < known.started_at == known.heartbeat_at < ago(minutes=-1)  # type: ignore[operator]
    assert run.request_cancel("olena") and claim_next_task(run, "test") is None


def test_delayed_task_is_claimed_once_its_delay_is_over(run: Run) -> None:
    run.tasks.filter(group=Group.FACT_EXTRACT).update(not_before=ago(hours=-1))
    assert claim_next_task(run, "test") is None
    run.tasks.filter(subject="fact_sales", stage=Stage.EXTRACT, low=7_000).update(not_before=ago(seconds=1))
    task = claim_next_task(run, "test")
    assert task and (task.low, task.not_before) == (7_000, None)


def test_concurrent_workers_share_the_tasks(run: Run) -> None:
    """Each task is claimed once; the last of a group, finished at the same moment by several, releases the next group once."""
    done = run_concurrently(4, lambda: [task.pk for task in execute_tasks(fresh(run), Times())])
    left = [task.pk for task in execute_tasks(run, Times())]  # a worker leaves when others have claimed all that may start
    everything = sorted([*left, *(number for each in done for number in each)])
    assert everything == sorted(run.tasks.exclude(stage=Stage.PLAN).values_list("pk", flat=True))
    require_right_counts(run)


@pytest.mark.skipif(not ON_SERVERS, reason="needs servers: SQLite has one writer at a time")
@pytest.mark.parametrize("is_unchanged", [False, True])
def test_last_tasks_of_two_tables_do_not_wait_for_each_other(transactional_db: None, is_unchanged: bool) -> None:
    """One has released a preparation and goes on to the load, the other releases both, by its transform or by skipping that."""
    run = Run.objects.create(mode="full", trigger="cli", requested_by="test")
    dimension = [PlannedTask(Stage.EXTRACT, "dim_region"), PlannedTask(Stage.TRANSFORM, "dim_region")]
    fact = PlannedTask(Stage.TRANSFORM, "fact_sales")
    save_tasks(run, [PlannedTask(Stage.LOAD), PlannedTask(Stage.PREPARE, "fact_sales"), *dimension, fact])
    extract, transform = (run.tasks.get(stage=each.stage, subject="dim_region") for each in dimension)
    if not is_unchanged:
        finish(extract)
    last = extract if is_unchanged else transform
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            run.tasks.get(stage=fact.stage, subject=fact.subject).in_slice_of(Stage.PREPARE).update(waits_for=F("waits_for") - 1)
            other = pool.submit(land_and_close, last, Landed(is_unchanged=is_unchanged))
            time.sleep(0.5)  # for it to wait
            run.tasks.filter(stage=Stage.LOAD).update(waits_for=F("waits_for") - 1)
        other.result(timeout=30)
    assert fresh(transform).state == State.SUCCEEDED and fresh(extract).state == State.SUCCEEDED


def land_and_close(task: Task, landed: Landed) -> None:
    try:
        assert task.claim_for("test")
        land(task, landed)
    finally:
        connections.close_all()


# --- Messages ---


@pytest.fixture
def queued_run(broker: FakeBroker) -> Run:
    run = start_planned_run(500, Times())
    Run.objects.update(executor=Executor.WORKERS)
    return run


def test_messages_are_bounded(queued_run: Run, broker: FakeBroker) -> None:
    """However many tasks may start, so many are on their way; each claim makes room for one, for the most urgent that is left."""
    send_ready_tasks(queued_run)
    sent = broker.take_sent()
    assert sent == list(queued_run.tasks.filter(group=Group.FACT_EXTRACT).values_list("pk", flat=True)[:MESSAGES_AHEAD])
    send_ready_tasks(queued_run)
    assert broker.take_sent() == []
    finish(Task.objects.get(pk=sent[0]))
    send_ready_tasks(queued_run)
    assert broker.take_sent() == [sent[-1] + 2], "extracts and transforms take turns"


def test_reaper_sends_lost_messages_again_in_bounded_passes(queued_run: Run, broker: FakeBroker) -> None:
    send_ready_tasks(queued_run)
    sent = broker.take_sent()
    Task.objects.exclude(message_sent_at=None).update(message_sent_at=ago(minutes=5))
    with CaptureQueriesContext(connections["default"]) as queries:
        reap()
    assert broker.take_sent() == sent and len(queries) < 2 * MESSAGES_AHEAD + 60


# --- Upgrade ---


def test_upgrade_counts_the_tasks_of_unfinished_runs(run: Run) -> None:
    assert len(list(islice(execute_tasks(run, Times()), 150))) == 150
    columns = ("pk", "group", "waits_for")
    before, counts = list(run.tasks.values_list(*columns)), sorted(run.task_counts.values_list("stage", "subject", "tasks", "unfinished"))
    run.tasks.update(group=0, waits_for=0)
    run.task_counts.all().delete()
    importlib.import_module("apps.orchestration.migrations.0005_task_counts").count_tasks(installed, None)
    assert list(run.tasks.values_list(*columns)) == before
    assert sorted(run.task_counts.values_list("stage", "subject", "tasks", "unfinished")) == counts
