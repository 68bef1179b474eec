"""A row that moves to an order of another slice between two snapshots is in both; then the slices are read again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_django.fixtures import Settings

from apps.etl.tables import FACT_SALES, ORDER_ITEMS
from apps.orchestration import moved
from apps.orchestration.models import Mode, Stage, State, Task, Trigger
from apps.orchestration.moved import find_shared
from apps.orchestration.requests import resume_run, start_run
from apps.orchestration.worker import tasks
from apps.orchestration.worker.local import execute_run
from apps.sources.orders.models import Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import Load
from techmarket.errors import RowsMoved
from tests.etl.warehouse_rows import assert_balanced, assert_warehouse_equals, compute_expected, run_etl
from tests.orchestration.harness import FakeBroker, fresh, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
Move = Callable[[int, int], None]  # some row, between these orders


def move_line(one: int, other: int) -> None:
    line = OrderItem.objects.filter(order=one).exclude(product_id__in=OrderItem.objects.filter(order=other).values("product_id"))[0]
    OrderItem.objects.filter(pk=line.pk).update(order=other)


def move_payment(one: int, other: int) -> None:
    Payment.objects.filter(pk=Payment.objects.filter(order_id=one, status="captured")[0].pk).update(order_id=other)


def sold_orders() -> tuple[int, int]:
    """Return the first and the last order that are paid, which are in different slices."""
    paid = Order.objects.filter(status="paid", id__in=list(Payment.objects.filter(status="captured").values_list("order_id", flat=True)))
    return paid.earliest("id").pk, paid.latest("id").pk


def after_first_slice(move: Callable[[], None], times: int = 1) -> Callable[[Task, int, bool], None]:
    """Return a listener that makes the move whenever the fact's first slice is read, `times` times in all."""
    moves: list[int] = []

    def listen(task: Task, rows: int, ended: bool) -> None:
        if ended and (task.stage, task.subject, task.low) == (Stage.EXTRACT, "fact_sales", None) and len(moves) < times:
            moves.append(task.pk)
            move()

    return listen


@pytest.fixture(params=["at once", "in ranges"])
def ids_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    if request.param == "in ranges":
        monkeypatch.setattr(moved, "IDS_AT_ONCE", 20)
        monkeypatch.setattr(moved, "SAMPLED", 2)
    return moved.IDS_AT_ONCE


def test_row_ids_are_read_in_ranges_of_bounded_size(ids_at_once: int) -> None:
    run = run_etl()
    batches = moved.find_raw_batches(run, FACT_SALES, ORDER_ITEMS)
    parts = [
        np.concatenate([moved.read_row_ids(batch, ORDER_ITEMS, bounds) for batch in some])
        for bounds, some in moved.share_out(batches, ORDER_ITEMS)
    ]
    assert len(batches) > 1 and max(map(len, parts)) < 2 * ids_at_once
    assert sorted(np.concatenate(parts)) == sorted(OrderItem.objects.values_list("pk", flat=True))


@pytest.mark.usefixtures("ids_at_once")
@pytest.mark.parametrize("move", [move_line, move_payment])
@pytest.mark.parametrize("loaded", [False, True], ids=["first load", "reread"])
def test_slices_that_share_a_row_are_read_again(move: Move, loaded: bool) -> None:
    if loaded:
        run_etl()
    run = start_run(Mode.FULL, Trigger.CLI, "test", reread=loaded)
    execute_run(run, after_first_slice(lambda: move(*sold_orders())))
    assert fresh(run).state == State.SUCCEEDED
    assert_warehouse_equals(compute_expected())
    assert_balanced(run)
    [attempt] = run.attempts.all()
    assert attempt.task.stage == Stage.LOAD and "moved to orders of another slice while they were read" in attempt.cause
    assert run.tasks.get(stage=Stage.LOAD).attempt == 2


def test_only_the_slices_that_share_a_row_are_read_again(settings: Settings) -> None:
    settings.ETL_BATCH_ORDERS = 10
    run = start_run(Mode.FULL, Trigger.CLI, "test")
    first, last = sold_orders()
    read: list[int | None] = []

    def listen(task: Task, rows: int, ended: bool) -> None:
        if ended and (task.stage, task.subject) == (Stage.EXTRACT, "fact_sales"):
            read.append(task.low)
            if len(read) == 1:
                move_line(first, last)

    execute_run(run, listen)
    slices = list(run.tasks.filter(stage=Stage.EXTRACT, subject="fact_sales").values_list("low", flat=True))
    assert len(slices) > 5 and read == [*slices, slices[0], slices[-1]]
    assert_warehouse_equals(compute_expected())


def test_workers_read_them_again(broker: FakeBroker) -> None:
    run = start_queued_run()
    tasks.execute(broker.take_sent()[0])
    first, *others = broker.take_sent()
    tasks.execute(first)
    move_line(*sold_orders())
    broker.sent = others + [number for number in broker.sent if number not in others]
    broker.deliver_all()
    assert fresh(run).state == State.SUCCEEDED and run.attempts.count() == 1
    assert_warehouse_equals(compute_expected())


def test_run_fails_in_the_end_where_rows_move_on_and_on(settings: Settings) -> None:
    """It can be resumed, and then reads these slices again."""
    settings.ETL_ATTEMPTS = 2
    _, last = sold_orders()
    others = iter(Payment.objects.filter(status="captured", order_id__lt=30).order_by("id").values_list("order_id", flat=True))
    run = start_run(Mode.FULL, Trigger.CLI, "test")
    with pytest.raises(RowsMoved, match=r"Rows of payments moved .* Nothing was published"):
        execute_run(run, after_first_slice(lambda: move_payment(next(others), last), times=9))
    assert fresh(run).state == State.FAILED and not Load.objects.exists()
    execute_run(resume_run(run.pk))
    assert fresh(run).state == State.SUCCEEDED
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize("move", [move_line, move_payment])
def test_row_that_is_in_neither_slice_is_found_by_the_next_run(move: Move) -> None:
    run = start_run(Mode.FULL, Trigger.CLI, "test")
    execute_run(run, after_first_slice(lambda: move(*sold_orders()[::-1])))
    assert not run.attempts.exists()
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())


def test_row_that_one_slice_has_twice_has_not_moved() -> None:
    ids: dict[int | None, Any] = {None: np.array([1, 2, 2, 3]), 10: np.array([4, 5, 5]), 20: np.array([6])}
    assert find_shared(ids) == ([], set())
    assert find_shared(ids | {20: np.array([6, 2])}) == ([2], {None, 20})
