"""Runs whose batches are in a batch store: a folder, or a bucket of a real S3 server."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from pytest_django.fixtures import Settings

from apps.etl.batch_store import BatchStore, connect
from apps.orchestration import api, stored
from apps.orchestration.models import Attempt, Batch, Mode, RejectState, Run, Stage, StandingReject, State, Task, Trigger
from apps.orchestration.outcome import delete_old_details
from apps.orchestration.stored import delete_stored_leftovers
from apps.orchestration.worker import landing, tasks
from apps.orchestration.worker.local import execute_run
from apps.orchestration.worker.recovery import reap
from apps.orchestration.worker.stages import STAGES, Landed, Report
from apps.sources.orders.models import Order, OrderItem
from apps.warehouse.models import FactSales
from techmarket.batch_address import BatchAddress
from techmarket.errors import BadData, BatchDamaged, BatchesLost, EtlError, Unreachable
from tests.etl.warehouse_rows import assert_balanced, assert_warehouse_equals, compute_expected, run_etl
from tests.orchestration.harness import FakeBroker, ago, fresh, read_warehouse, requeue_before_landing, start_queued_run
from tests.servers import free_port

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


def use_folder(settings: Settings, folder: Path) -> BatchStore:
    (folder / "store").mkdir()
    settings.BATCH_STORE = BatchAddress("file", str(folder / "store"))
    return connect(settings.BATCH_STORE)


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> BatchStore:
    return use_folder(settings, tmp_path)


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> BatchStore:
    if request.param == "file":
        return use_folder(settings, tmp_path)
    s3 = request.getfixturevalue("s3")
    settings.BATCH_STORE = s3.address(s3.create_bucket())
    return connect(settings.BATCH_STORE)


def objects(store: BatchStore) -> set[str]:
    """Return the names of all objects."""
    from pyarrow import fs

    found = store.files.get_file_info(fs.FileSelector(store.address.path, recursive=True, allow_not_found=True))
    files = [each for each in found if each.type == fs.FileType.File and each.size]
    return {each.path.removeprefix(store.address.path).strip("/") for each in files}


def named(**condition: Any) -> set[str]:
    """Return the objects that the ledger's rows name."""
    return set(Batch.objects.filter(**condition).exclude(object_name="").values_list("object_name", flat=True))


def break_stage(monkeypatch: pytest.MonkeyPatch, stage: Stage, error: EtlError) -> None:
    """Let the next task of this stage fail."""
    real = STAGES[stage]

    def fail(task: Task, report: Report) -> Landed:
        monkeypatch.setitem(STAGES, stage, real)
        raise error

    monkeypatch.setitem(STAGES, stage, fail)


def failed_run(monkeypatch: pytest.MonkeyPatch, mode: Mode = Mode.FULL) -> Run:
    """Return a run that has failed at its load, with all that it has landed."""
    break_stage(monkeypatch, Stage.LOAD, BadData("It is broken."))
    run = api.start_run(mode, Trigger.CLI, "test")
    with pytest.raises(BadData):
        execute_run(run)
    return fresh(run)


# --- Runs ---


def test_runs_store_their_batches_as_objects(store: BatchStore) -> None:
    full = run_etl()
    Order.objects.filter(pk=Order.objects.earliest("pk").pk).update(status="cancelled")
    incremental = run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert_balanced(full)
    assert_balanced(incremental)
    assert objects(store) == named() and len(named()) > 10
    assert not Batch.objects.filter(object_name="").exists() and {bytes(each.body) for each in Batch.objects.all()} == {b""}
    for batch in Batch.objects.select_related("run", "task"):
        folder, claim, digest = batch.object_name.split("/")
        assert (folder, claim, len(digest)) == (str(batch.run.uuid), str(batch.task.claim), 64)


def test_without_a_store_the_control_database_has_them() -> None:
    run_etl()
    assert not named() and not any(len(each.body) == 0 for each in Batch.objects.all())


def test_batches_in_the_control_database_are_read_beside_a_store(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed_run(monkeypatch)
    use_folder(settings, tmp_path)
    execute_run(api.resume_run(run.pk))
    assert fresh(run).state == State.SUCCEEDED
    assert_warehouse_equals(compute_expected())


def test_workers_share_a_store(store: BatchStore, broker: FakeBroker) -> None:
    run = start_queued_run()
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and objects(store) == named(run=run)
    assert_warehouse_equals(compute_expected())


def test_transaction_is_not_held_over_the_network(folder: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, open_then = BatchStore.write, []

    def write(store: BatchStore, where: str, body: bytes) -> str:
        open_then.append(landing.transaction.get_connection("default").in_atomic_block)
        return real(store, where, body)

    monkeypatch.setattr(BatchStore, "write", write)
    run_etl()
    assert len(open_then) > 10 and not any(open_then)


def test_resume_reads_what_is_stored(store: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = failed_run(monkeypatch)
    before = objects(store)
    Order.objects.all().delete()  # nothing is read from the sources again
    execute_run(api.resume_run(run.pk))
    assert fresh(run).state == State.SUCCEEDED and objects(store) == before and FactSales.objects.exists()


# --- Bad days ---


def spoil(store: BatchStore, change: Callable[[str], None]) -> None:
    """Change the objects with the orders' fingerprints, which the load reads itself on every warehouse."""
    for name in named(task__stage=Stage.TRANSFORM, name="etl_order"):
        change(name)


def overwrite(store: BatchStore, name: str) -> None:
    with store.files.open_output_stream(store.path(name)) as stream:
        stream.write(b"another content")


@pytest.mark.parametrize(
    ("change", "error", "cause"),
    [
        (lambda store, name: store.files.delete_file(store.path(name)), BatchesLost, " no longer has a batch of this run, "),
        (overwrite, BatchDamaged, "A landed batch does not match its checksum. Start a new run."),
    ],
    ids=["gone", "changed"],
)
def test_object_that_is_gone_or_changed(
    store: BatchStore, monkeypatch: pytest.MonkeyPatch, change: Any, error: type[EtlError], cause: str
) -> None:
    """The run says so, the warehouse stays as it was, and the next run mends it."""
    run_etl()
    Order.objects.filter(pk=Order.objects.filter(status="paid").earliest("pk").pk).update(status="cancelled")
    run, before = failed_run(monkeypatch), read_warehouse()
    spoil(store, lambda name: change(store, name))
    with pytest.raises(error):
        execute_run(api.resume_run(run.pk))
    assert cause in fresh(run).cause and read_warehouse() == before
    run_etl()
    assert_warehouse_equals(compute_expected())


def test_store_that_the_settings_name_no_more(folder: BatchStore, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run, there = failed_run(monkeypatch), settings.BATCH_STORE
    settings.BATCH_STORE = None
    with pytest.raises(BatchesLost, match="is in a batch store, and ETL_BATCH_URL is empty"):
        execute_run(api.resume_run(run.pk))
    settings.BATCH_STORE = there
    execute_run(api.resume_run(run.pk))
    assert fresh(run).state == State.SUCCEEDED


def test_unusable_store_is_refused_before_anything_is_read(settings: Settings) -> None:
    settings.BATCH_STORE = BatchAddress("s3", "bucket", f"127.0.0.1:{free_port()}", "eu-central-1", "http", "id", "key")
    run = api.start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(Unreachable, match=r"^batch store \(s3://bucket\) does not answer: .* correct ETL_BATCH_URL\.$"):
        execute_run(run)
    assert set(run.tasks.values_list("stage", "state")) == {(Stage.PLAN, State.FAILED)}


def test_store_that_goes_away_is_tried_again(folder: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a database that does not answer: a task is retried, and the run succeeds."""
    real, failures = BatchStore.write, [Unreachable("away"), Unreachable("away")]

    def write(store: BatchStore, where: str, body: bytes) -> str:
        if failures and "check" not in where and Task.objects.filter(stage=Stage.EXTRACT, state=State.RUNNING).exists():
            raise failures.pop()
        return real(store, where, body)

    monkeypatch.setattr(BatchStore, "write", write)
    run = run_etl()
    assert not failures and run.attempts.count() == 2 and objects(folder) == named()


def test_published_run_succeeds_without_its_objects(folder: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reject that it would have cleared is cleared by a later run."""
    item = OrderItem.objects.filter(order__status="paid").earliest("pk")
    OrderItem.objects.filter(pk=item.pk).update(quantity=0)
    run_etl()
    OrderItem.objects.filter(pk=item.pk).update(quantity=item.quantity)
    real = STAGES[Stage.LOAD]

    def load_then_lose(task: Task, report: Report) -> Landed:
        landed = real(task, report)
        monkeypatch.setitem(STAGES, Stage.LOAD, real)
        folder.delete_folder(str(task.run.uuid))
        return landed

    monkeypatch.setitem(STAGES, Stage.LOAD, load_then_lose)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert StandingReject.objects.get().state == RejectState.OPEN
    run_etl(reread=True)
    assert StandingReject.objects.get().state == RejectState.CLEARED


# --- Deletion ---


def test_batches_of_old_runs_are_deleted(store: BatchStore, settings: Settings) -> None:
    old = run_etl()
    new = run_etl()
    assert named(run=old) <= objects(store)
    Run.objects.filter(pk=old.pk).update(finished_at=ago(days=settings.ETL_KEEP_BATCHES_DAYS, minutes=5))
    delete_old_details()
    delete_stored_leftovers()
    assert objects(store) == named() == named(run=new)
    assert set(store.list_folders()) == {str(new.uuid)}


def test_daily_duty_deletes_too(folder: BatchStore, settings: Settings) -> None:
    old = run_etl()
    Run.objects.filter(pk=old.pk).update(finished_at=ago(days=settings.ETL_KEEP_BATCHES_DAYS, minutes=5))
    tasks.forget()
    assert not objects(folder)


def test_dry_run_leaves_no_object(store: BatchStore) -> None:
    run_etl(dry_run=True)
    assert not objects(store)


def test_queued_dry_run_leaves_no_object(folder: BatchStore, broker: FakeBroker) -> None:
    start_queued_run(dry_run=True)
    broker.deliver_all()
    assert not objects(folder)


def test_objects_of_dead_attempts_are_deleted(store: BatchStore, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has stored its batches and dies before it records them; another does the task."""
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)

    def die(batch: Batch, table: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(landing, "save_batch", die)
        with pytest.raises(SystemExit):
            tasks.execute(task.pk)
    left = objects(store) - named()
    assert left and {name.split("/")[1] for name in left} == {str(fresh(task).claim)}
    delete_stored_leftovers()
    assert left <= objects(store), "for all that is known its worker may be about to record them"
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(seconds=31), worker="dead:1")
    reap()
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and objects(store) == named()


def test_slow_worker_records_what_a_deletion_meanwhile_has_left(
    folder: BatchStore, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion falls between the writing of the objects and the transaction that names them."""
    run = start_queued_run()
    real = landing.prepare_batches

    def prepare_then_delete(task: Task, tables: Any) -> Any:
        prepared = real(task, tables)
        delete_stored_leftovers()
        return prepared

    monkeypatch.setattr(landing, "prepare_batches", prepare_then_delete)
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and objects(folder) == named()


def test_task_that_ends_during_a_deletion_keeps_its_objects(
    folder: BatchStore, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It records them after the folders were listed, and before the ledger is read."""
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    Attempt.objects.create(run=run, task=task, number=1, worker="dead:1", started_at=ago(minutes=1))  # so the run's folder is listed
    written, go_on = threading.Event(), threading.Event()
    prepare, list_folders = landing.prepare_batches, BatchStore.list_folders

    def prepare_then_wait(claimed: Task, tables: Any) -> Any:
        prepared = prepare(claimed, tables)
        written.set()
        assert go_on.wait(60)
        return prepared

    def execute() -> None:
        try:
            tasks.execute(task.pk)
        finally:
            connections.close_all()

    def list_then_let_it_end(store: BatchStore, where: str = "") -> list[str]:
        found = list_folders(store, where)
        if where:
            go_on.set()
            worker.join(60)
        return found

    monkeypatch.setattr(landing, "prepare_batches", prepare_then_wait)
    worker = threading.Thread(target=execute)
    worker.start()
    assert written.wait(60)
    with monkeypatch.context() as patch:
        patch.setattr(BatchStore, "list_folders", list_then_let_it_end)
        delete_stored_leftovers()
    assert fresh(task).state == State.SUCCEEDED and objects(folder) == named()
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED


def test_worker_that_lost_its_task_leaves_no_object(folder: BatchStore, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    requeue_before_landing(monkeypatch)
    tasks.execute(task.pk)
    assert objects(folder) - named(), "the one that came too late has stored its batches, too"
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and objects(folder) == named()


def test_batches_of_a_task_that_starts_over_are_deleted(folder: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = failed_run(monkeypatch)
    for task in run.tasks.filter(stage=Stage.EXTRACT, state=State.SUCCEEDED):
        Run.objects.filter(pk=run.pk).update(state=State.RUNNING)
        task.start_over()
    execute_run(api.resume_run(lose(run).pk))
    assert objects(folder) == named()


def lose(run: Run) -> Run:
    Run.objects.filter(pk=run.pk).update(state=State.LOST)
    return fresh(run)


def test_foreign_objects_stay(store: BatchStore) -> None:
    foreign = {store.write("backups/2026", b"a dump"), store.write("run-1/claim", b"x")}
    run_etl()
    delete_stored_leftovers()
    assert foreign <= objects(store)


def test_run_that_the_ledger_does_not_know(folder: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup was restored that is older than the run: its objects go when those of any run would."""
    name = folder.write("01234567-89ab-4def-8123-456789abcdef/claim", b"x")
    delete_stored_leftovers()
    assert name in objects(folder)
    monkeypatch.setattr(stored.clock, "process_now", lambda: ago(days=-8))
    delete_stored_leftovers()
    assert not folder.list_folders()


def test_store_that_is_away_costs_a_deletion_and_no_run(folder: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(store: BatchStore, where: str = "") -> list[str]:
        raise Unreachable("away")

    monkeypatch.setattr(BatchStore, "list_folders", away)
    run_etl()
