"""Runs that find no order to read: the dimensions are looked at by the plan, and what has not changed has no tasks."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db.models import F
from pytest_django.fixtures import Settings

from apps.etl.extract.dimensions import slice_condition
from apps.etl.extract.snapshot import open_snapshot
from apps.etl.slices import EVERYTHING, Slices
from apps.etl.tables import CATEGORIES, CUSTOMER_ACCOUNTS, CUSTOMERS
from apps.orchestration import api, planning
from apps.orchestration.models import Batch, Mode, Run, Stage, State, Trigger
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, OrderItem
from apps.warehouse.loads import Load, latest_load
from apps.warehouse.models import DimProduct
from tests.orchestration.harness import fresh, read_warehouse

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]


@pytest.fixture(autouse=True)
def window_without_changes(settings: Settings) -> None:
    settings.ETL_OVERLAP_MINUTES = settings.ETL_SWEEP_SECONDS = 0


def execute_run(mode: Mode = Mode.INCREMENTAL, **options: Any) -> Run:
    run = api.start_run(mode, Trigger.CLI, "test", **options)
    api.execute_run(run)
    return fresh(run)


def read_subjects(run: Run) -> set[str]:
    return set(run.tasks.exclude(subject="").values_list("subject", flat=True))


@pytest.mark.parametrize("sweep_seconds", [0, 10])
def test_run_without_a_change_publishes_its_mark(settings: Settings, sweep_seconds: int) -> None:
    settings.ETL_SWEEP_SECONDS = sweep_seconds
    execute_run(Mode.FULL)
    before, rows = latest_load(), read_warehouse()[0]
    run, after = execute_run(), latest_load()
    assert run.state == State.SUCCEEDED and before and after
    assert [task.stage for task in run.tasks.order_by("pk")] == [Stage.PLAN, Stage.LOAD]
    assert not Batch.objects.filter(run=run).exists() and not run.checks.filter(passed=False).exists()
    assert after.run_uuid == run.uuid and after.sequence == before.sequence + 1 and after.fingerprints == before.fingerprints
    assert after.high_water_mark and before.high_water_mark and after.high_water_mark > before.high_water_mark
    assert read_warehouse()[0] == rows and not any(sum(counts.values()) for counts in after.counts.values())
    assert api.row_counts(run)["fact_sales"]["read"] == 0
    assert (run.found["segments"] > 0) == bool(sweep_seconds)


def test_dry_run_without_a_change_publishes_nothing() -> None:
    execute_run(Mode.FULL)
    run = execute_run(dry_run=True)
    assert run.state == State.SUCCEEDED and Load.objects.count() == 1 and run.result["tables"]["fact_sales"]["inserted"] == 0


def test_only_the_dimension_that_changed_is_read() -> None:
    execute_run(Mode.FULL)
    product = Product.objects.order_by("pk")[0]
    Product.objects.filter(pk=product.pk).update(price=F("price") + 1)
    run = execute_run()
    assert run.state == State.SUCCEEDED and read_subjects(run) == {"dim_product"}
    assert DimProduct.objects.get(product_id=product.pk).price == product.price + 1
    assert api.row_counts(run)["dim_product"]["updated"] == 1
    assert run.checks.filter(passed=True, blocking=True).exists() and not run.checks.filter(passed=False, blocking=True).exists()
    assert read_subjects(execute_run()) == set()


def test_slice_of_a_dimension_that_has_not_changed_is_not_transformed() -> None:
    execute_run(Mode.FULL)
    OrderItem.objects.filter(order_id=30).update(quantity=7, updated_at=datetime.now(UTC))
    Product.objects.filter(pk=1).update(price=F("price") + 1)
    run = execute_run()
    transforms = run.tasks.filter(stage=Stage.TRANSFORM)
    assert run.state == State.SUCCEEDED and not transforms.exclude(state=State.SUCCEEDED).exists()
    executed = set(transforms.filter(attempt=1).values_list("subject", flat=True))
    assert executed == {"fact_sales", "dim_product", "dim_date"} and transforms.filter(attempt=0).count() >= 4
    assert not run.task_counts.exclude(unfinished=0).exists()


def test_row_changed_in_the_warehouse_is_found_by_a_full_run() -> None:
    execute_run(Mode.FULL)
    DimProduct.objects.filter(product_id__isnull=False).update(name="another hand's")
    assert read_subjects(execute_run()) == set()
    assert "dim_product" in read_subjects(execute_run(Mode.FULL))
    assert not DimProduct.objects.filter(name="another hand's").exists()


def test_workers_share_the_looking_at_many_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    execute_run(Mode.FULL)
    monkeypatch.setattr(planning, "MOST_LOOKED_AT", 3)
    run = execute_run()
    assert run.state == State.SUCCEEDED and {"dim_customer", "dim_date"} <= read_subjects(run)
    assert "fact_sales" not in read_subjects(run) and not api.row_counts(run)["dim_customer"]["read"]


def test_run_whose_plan_is_stale_is_planned_again() -> None:
    """Also where it has nothing to publish but its mark."""
    execute_run(Mode.FULL)
    before = latest_load()
    assert before
    run = api.start_run(Mode.INCREMENTAL, Trigger.CLI, "test")

    def publish_another(task: Any, rows: int, ended: bool) -> None:
        if ended and task.stage == Stage.PLAN and Load.objects.count() < 2:
            Load.objects.create(run_uuid="0" * 32, run_id=0, mode="full", counts={}, rules=before.rules, published_at=before.published_at)

    api.execute_run(run, publish_another)
    assert fresh(run).state == State.SUCCEEDED and Load.objects.count() == 3
    assert run.tasks.get(stage=Stage.PLAN).attempt == 2


@pytest.mark.parametrize("slices", [(EVERYTHING,), ((None, 4), (4, 9), (9, 1_000), (1_000, None))])
def test_fingerprints_of_slices_are_those_of_each(slices: Slices) -> None:
    """Two reads of one slice, by the plan and by a task, must agree to the letter."""
    Customer.objects.filter(pk=5).update(first_name="Ї" * 80)
    for source in (CUSTOMERS, CUSTOMER_ACCOUNTS) if len(slices) > 1 else (CUSTOMERS, CUSTOMER_ACCOUNTS, CATEGORIES):
        with open_snapshot(source.alias) as snapshot:
            found = snapshot.read_fingerprints(source, slices)
            assert found == [snapshot.read_fingerprint(source, slice_condition(source, bounds)) for bounds in slices]
            assert len(set(found)) == len(slices)
