"""Connections that servers close between two attempts, during a stage, or while a process is idle between two runs."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connections
from pytest_django.fixtures import Settings

from apps.demo import changes
from apps.orchestration import api
from apps.orchestration.models import Attempt, Run, Stage, State, Task
from apps.orchestration.worker import loop, stages
from apps.orchestration.worker.heartbeat import Heartbeat
from apps.orchestration.worker.local import execute_run
from techmarket.connections import close_dead_connections
from tests.orchestration.harness import FakeBroker, fresh, start_queued_run
from tests.servers import mysql, postgresql

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.skipif("TEST_POSTGRES_URL" not in os.environ, reason="needs servers: run it under tests/servers.py"),
]
SOURCES = ("auth_db", "catalog_db", "orders_db", "payments_db")
ALIASES = ("default", "dwh", *SOURCES)


@pytest.fixture(autouse=True)
def fresh_connections(transactional_db: None) -> Iterator[None]:
    """Leave no dead connection to what empties the tables."""
    yield
    connections.close_all()


def end_sessions(alias: str) -> int:
    """End every session of the database, as an administrator or an idle timeout does. Return how many there were."""
    name = connections[alias].settings_dict["NAME"]
    if connections[alias].vendor == "postgresql":
        with closing(postgresql(os.environ["TEST_POSTGRES_URL"])) as admin:
            return len(admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name]).fetchall())
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
        sessions = [number for (number,) in cursor.fetchall()]
        for number in sessions:
            cursor.execute(f"KILL {number}")
        return len(sessions)


def open_all() -> None:
    """Open a connection of every alias in this thread."""
    for alias in ALIASES:
        connections[alias].ensure_connection()


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Stage, int], list[int]]]:
    """Return a function that lets sessions end at the first attempts of a stage, once every connection is open."""

    def at(alias: str, stage: str, attempts: int = 1) -> list[int]:
        own, cuts = stages.STAGES[stage], []

        def execute(task: Task, report: Any) -> Any:
            if len(cuts) < attempts:
                open_all()
                cuts.append(end_sessions(alias))
                connections[alias].cursor().execute("SELECT 1")  # fails
            return own(task, report)

        monkeypatch.setitem(loop.STAGES, stage, execute)
        return cuts

    yield at


@pytest.mark.parametrize("stage", [Stage.PLAN, Stage.EXTRACT, Stage.PREPARE, Stage.LOAD])
@pytest.mark.parametrize("alias", ALIASES)
def test_next_attempt_has_a_new_connection(small_shop: Any, cut: Any, fast_heartbeat: None, alias: str, stage: Stage) -> None:
    cuts = cut(alias, stage, attempts=2)
    run = api.run("full")
    assert (run.state, len(cuts), min(cuts) > 0) == (State.SUCCEEDED, 2, True), run.cause
    assert Attempt.objects.filter(run=run, task__stage=stage).count() == 2


@pytest.mark.parametrize("alias", ALIASES)
def test_worker_of_celery_has_a_new_connection(small_shop: Any, broker: FakeBroker, cut: Any, alias: str) -> None:
    cuts = cut(alias, Stage.LOAD, attempts=2)
    run = start_queued_run()
    broker.deliver_all()
    for _attempt in range(2):
        broker.send(run.tasks.get(stage=Stage.LOAD).pk, Stage.LOAD)
        broker.deliver_all()
    assert (fresh(run).state, len(cuts)) == (State.SUCCEEDED, 2), fresh(run).cause


def test_ledger_that_is_lost_while_a_stage_works_costs_no_attempt(
    small_shop: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """An idle timeout shorter than each stage would fail all attempts alike."""
    settings.ETL_ATTEMPTS = 1
    for stage, own in dict(stages.STAGES).items():

        def execute(task: Task, report: Any, own: Any = own) -> Any:
            landed = own(task, report)
            end_sessions("default")
            return landed

        monkeypatch.setitem(loop.STAGES, stage, execute)
    monkeypatch.setattr(Heartbeat, "beat", lambda self: None)  # whose own connection is another matter
    assert api.run("full").state == State.SUCCEEDED


def test_ledger_that_is_lost_during_a_load_costs_no_attempt(small_shop: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.ETL_ATTEMPTS = 1
    own = stages.hold_claim

    def hold(task: Task, **options: Any) -> Any:
        end_sessions("default")
        return own(task, **options)

    monkeypatch.setattr(stages, "hold_claim", hold)
    monkeypatch.setattr(Heartbeat, "beat", lambda self: None)
    assert api.run("full").state == State.SUCCEEDED


@pytest.mark.parametrize("name", ["take_turn", "after"])
def test_ledger_that_is_lost_between_two_tasks(small_shop: Any, monkeypatch: pytest.MonkeyPatch, fast_heartbeat: None, name: str) -> None:
    from apps.orchestration.worker.local import LocalWorker

    own, cuts = getattr(LocalWorker, name), []

    def lost(self: Any, *arguments: Any) -> Any:
        if len(cuts) < 2:
            connections["default"].ensure_connection()
            cuts.append(end_sessions("default"))
            Run.objects.count()
        return own(self, *arguments)

    monkeypatch.setattr(LocalWorker, name, lost)
    run = api.run("full")
    assert (run.state, len(cuts)) == (State.SUCCEEDED, 2), run.cause


def test_claim_whose_answer_is_lost(small_shop: Any, monkeypatch: pytest.MonkeyPatch, fast_heartbeat: None) -> None:
    """The ledger has the task as running, and the worker does not know it."""
    own, lost = loop.claim_next_task, []

    def claim(*arguments: Any) -> Task | None:
        task = own(*arguments)
        if task and not lost:
            lost.append(task.pk)
            raise OperationalError("server closed the connection unexpectedly")
        return task

    monkeypatch.setattr(loop, "claim_next_task", claim)
    run = api.run("full")
    assert run.state == State.SUCCEEDED and Task.objects.get(pk=lost[0]).attempt == 2


def test_ledger_that_stays_away_ends_the_worker(small_shop: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.ETL_LOST_AFTER_SECONDS = 0

    def lost(*arguments: Any) -> Any:
        raise InterfaceError("the connection is closed")

    monkeypatch.setattr(loop, "claim_next_task", lost)
    run = api.start_run("full", "cli", "test")
    with pytest.raises(Exception, match="control database"):
        execute_run(run)
    assert fresh(run).state == State.FAILED


def test_next_run_of_the_same_process(small_shop: Any) -> None:
    assert api.run("full").state == State.SUCCEEDED
    for number in range(2):
        open_all()
        for alias in ALIASES:
            assert end_sessions(alias) > 0
        if not number:
            changes_thread = threading.Thread(target=apply_changes)  # with connections of its own
            changes_thread.start()
            changes_thread.join()
        run = api.run("full")
        assert run.state == State.SUCCEEDED, run.cause
        end_sessions("default")
        last = api.last()
        assert last is not None and last.pk == run.pk


def apply_changes() -> None:
    try:
        changes.apply(5, seed=1)
    finally:
        connections.close_all()


def test_follower_outlives_the_ledgers_sessions(small_shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start_queued_run()
    polls: list[int] = []

    def sleep(seconds: float) -> None:
        polls.append(end_sessions("default") if len(polls) < 3 else 0)
        if len(polls) == 4:
            fresh(run).end(Exception("over"))

    monkeypatch.setattr(api.time, "sleep", sleep)
    assert api.follow(run).state == State.FAILED and polls[:2] > [0]


def test_heartbeat_goes_on_with_a_new_connection(small_shop: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr("apps.orchestration.worker.heartbeat.LISTEN_INTERVAL_S", 0.05)
    settings.ETL_HEARTBEAT_SECONDS = 0
    run = start_queued_run()
    with Heartbeat(run.pk, "nobody") as heartbeat:
        for _cut in range(3):
            threading.Event().wait(0.2)
            end_sessions("default")
        threading.Event().wait(0.3)
        assert heartbeat.thread.is_alive()
        connections["default"].close()
        fresh(run).request_cancel("somebody")
        threading.Event().wait(0.5)
        assert heartbeat.cause is not None


@pytest.mark.parametrize("alias", ["default", "dwh"])
def test_idle_timeout_of_postgresql(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SET idle_session_timeout = '50ms'")
    threading.Event().wait(0.3)
    close_dead_connections()
    connections[alias].cursor().execute("SELECT 1")


@pytest.mark.parametrize("alias", SOURCES)
def test_idle_timeout_of_mysql(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SET SESSION wait_timeout = 1")
    threading.Event().wait(2.2)
    close_dead_connections()
    connections[alias].cursor().execute("SELECT 1")
