"""Stopped from outside at every stage: the ledger says so, the warehouse is as it was, and `--resume` goes on."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import execute_from_command_line

from apps.demo import shop as demo
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.worker import local, loop
from apps.orchestration.worker.stages import STAGES
from apps.warehouse.loads import Load
from techmarket.commands import interruptible
from tests.failures.conftest import ON_SERVERS, SLOW, Shop, ended, needs_servers, one_sentence, read_message

FEW = {"ETL_BATCH_ORDERS": "100"}
SOON = SLOW | {"ETL_LOST_AFTER_SECONDS": "5"}


@contextmanager
def warehouse_held(shop: Shop) -> Iterator[None]:
    """Nobody else writes there, so a load waits."""
    with closing(shop.connect("dwh")) as other:
        if ON_SERVERS:
            other.execute("LOCK TABLE fact_sales IN SHARE MODE")
        else:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


def cancelled(shop: Shop, result: Any, word: str, before: str) -> None:
    one_sentence(result, 130, f"Cancelled {word}. Nothing was published. `manage.py run_etl --resume 2` resumes it.")
    assert result.stdout == ""
    run = shop.runs()[-1]
    assert (run["id"], run["state"], run["cause"]) == (2, "cancelled", f"Cancelled {word}. Nothing was published.")
    assert not shop.tasks("running") and not shop.tasks("failed")
    causes = shop.sql("default", "SELECT t.state, a.cause FROM orchestration_attempt AS a JOIN orchestration_task AS t ON t.id = a.task_id")
    assert {(state, read_message(cause)) for state, cause in causes} <= {("cancelled", run["cause"])}
    assert shop.warehouse() == before


def resumed(shop: Shop, before: str) -> None:
    """What was done stays done: with the time at which it was."""
    query = "SELECT id, finished_at FROM orchestration_task WHERE run_id = 2 AND state = 'succeeded'"
    done = set(shop.sql("default", query))
    result = shop.run("run_etl", "--resume", "2", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [run["state"] for run in shop.runs()] == ["succeeded", "succeeded"]
    assert done and done <= set(shop.sql("default", query))
    assert shop.warehouse() != before


@pytest.mark.parametrize(
    ("stage", "number", "word"),
    [("extract", signal.SIGINT, "at the terminal"), ("transform", signal.SIGTERM, "by SIGTERM"), ("transform", signal.SIGHUP, "by SIGHUP")],
)
def test_signal_while_it_reads(shop: Shop, stage: str, number: int, word: str) -> None:
    before = shop.warehouse()
    # The suite itself may run under nohup.
    process = shop.start("run_etl", "--mode", "full", env=SLOW, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    shop.waits_for(shop.running(stage), process)
    process.send_signal(number)
    cancelled(shop, ended(process), word, before)
    if number != signal.SIGHUP:
        resumed(shop, before)


def test_signal_while_it_loads(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=FEW)
    shop.waits_for(shop.running("extract"), process)
    with warehouse_held(shop):
        shop.waits_for(shop.running("load"), process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # one who is impatient
    cancelled(shop, ended(process), "at the terminal", before)
    resumed(shop, before)


@needs_servers
def test_signal_before_the_commit(shop: Shop) -> None:
    """All is loaded and checked; what is missing is the claim, which another session keeps from us."""
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=FEW | {"ETL_HEARTBEAT_SECONDS": "60", "ETL_LOST_AFTER_SECONDS": "120"})
    with closing(shop.connect("default")) as other:
        shop.waits_for(shop.running("load"), process)
        other.execute("SELECT 1 FROM orchestration_task WHERE stage = 'load' FOR UPDATE")
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{shop.name('default')}' AND wait_event_type = 'Lock'"
        shop.waits_for(lambda: shop.sql("default", waiting), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        other.rollback()
    cancelled(shop, ended(process), "at the terminal", before)
    resumed(shop, before)


@needs_servers
def test_signal_after_the_commit_finds_it_published(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", "--json", env=FEW)
    with closing(shop.connect("default")) as other:
        shop.waits_for(shop.running("load"), process)
        other.execute("LOCK TABLE orchestration_checkresult IN ACCESS EXCLUSIVE MODE")  # what is written after the publish
        shop.waits_for(lambda: shop.sql("dwh", "SELECT 1 FROM etl_load WHERE run_id = 2"), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        other.rollback()
    result = ended(process)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["status"] == "succeeded"
    assert shop.runs()[-1]["state"] == "succeeded" and not shop.tasks("cancelled")
    assert shop.warehouse() != before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells by /proc how far the start has come")
@pytest.mark.parametrize("library", ["_socket", "psycopg", "pyarrow"])
def test_signal_while_it_starts(shop: Shop, library: str) -> None:
    """Not measured: coverage itself would load libraries, before a line of ours has run."""
    process = shop.start("run_etl", env={"COVERAGE_PROCESS_CONFIG": ""})
    shop.waits_for(lambda: library in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    result = ended(process)
    one_sentence(result, 130, "Cancelled")
    assert result.stdout == ""
    assert [run["state"] for run in shop.runs()] in (["succeeded"], ["succeeded", "cancelled"])


def test_signal_that_the_shell_has_switched_off(shop: Shop) -> None:
    """nohup: the terminal may close, the run goes on."""
    process = shop.start("run_etl", "--quiet", env=SLOW, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    shop.waits_for(shop.running("extract"), process)
    process.send_signal(signal.SIGHUP)
    result = ended(process)
    assert (result.returncode, result.stderr) == (0, "")


# --- One at a time ---


def test_second_run_is_skipped(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env={"ETL_BATCH_ORDERS": "1", "LOGNAME": "Olena"})
    shop.waits_for(shop.running("extract"), process)

    second = shop.run("run_etl", "--json")
    assert process.poll() is None, "the second does not wait for the first"
    one_sentence(second, 3, "Skipped: overlaps run 2 requested by Olena, running since ", ", last heartbeat ")
    said = json.loads(second.stdout)
    skipped = shop.runs()[-1]["id"]
    assert (said["run"], said["status"], said["cause"]) == (skipped, "skipped", second.stderr.strip())

    resume = shop.run("run_etl", "--resume", "2")
    one_sentence(resume, 3, "Run 2 requested by Olena, running since ", "it is active")
    assert resume.stdout == ""

    process.send_signal(signal.SIGINT)
    ended(process)
    runs = shop.runs()
    assert [(run["state"], run["overlaps_id"]) for run in runs] == [("succeeded", None), ("cancelled", None), ("skipped", 2)]
    assert shop.warehouse() == before


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_resume_of_what_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    states = (State.SUCCEEDED, 3, "has succeeded already; there is nothing to resume."), (State.SKIPPED, 2, "Start a new run.")
    for state, code, says in (*states, (None, 2, "There is no run 999. `manage.py run_etl` starts a new one.")):
        number = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="test", state=state).pk if state else 999
        with pytest.raises(SystemExit) as end:
            execute_from_command_line(["manage.py", "run_etl", "--resume", str(number)])
        out, err = capsys.readouterr()
        assert (end.value.code, out, err.count("\n")) == (code, "", 1) and says in err
    assert Run.objects.count() == 2


# --- Killed ---


def killed(shop: Shop, stage: str) -> None:
    process = shop.start("run_etl", "--mode", "full", env=SOON)
    shop.waits_for(shop.running(stage), process)
    process.kill()
    process.communicate()


def test_dead_run_is_lost_after_the_silence(shop: Shop) -> None:
    before = shop.warehouse()
    killed(shop, "transform")
    one_sentence(shop.run("run_etl", env=SOON), 3, "Skipped: overlaps run 2 requested by ", ", last heartbeat ")
    assert shop.runs()[1]["state"] == "running"
    time.sleep(5)
    assert shop.run("run_etl", env=SOON).returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "lost", "skipped", "succeeded"]
    lost = shop.runs()[1]
    assert "stopped sending heartbeats at" in lost["cause"] and lost["cause_kind"] == "machine"
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_task WHERE run_id = 2 AND state = 'running'") == [(0,)]
    assert shop.warehouse() != before


def test_dead_run_that_had_published_has_succeeded(shop: Shop) -> None:
    """It died between the warehouse's commit and the ledger's."""
    process = shop.start("run_etl", "--mode", "full", env=SOON | FEW)
    shop.waits_for(shop.running("extract"), process)
    with warehouse_held(shop):
        shop.waits_for(shop.running("load"), process)
        process.kill()
        process.communicate()
    [(uuid,)] = shop.sql("default", "SELECT uuid FROM orchestration_run WHERE id = 2")
    columns = "run_id, mode, window_start, window_end, high_water_mark, counts, fingerprints, published_at"
    shop.sql(
        "dwh",
        f"INSERT INTO etl_load (run_uuid, {columns}) SELECT '{uuid}', {columns.replace('run_id', '2')} FROM etl_load WHERE run_id = 1",
    )
    long_ago = "'2026-01-01 00:00:00'"
    for table in ("orchestration_run", "orchestration_task"):
        shop.sql("default", f"UPDATE {table} SET heartbeat_at = {long_ago} WHERE heartbeat_at IS NOT NULL")
    assert shop.run("run_etl", "--quiet", env=SOON).returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "succeeded", "succeeded"]


# --- In one process, where the moment can be chosen ---


@pytest.fixture
def run() -> Run:
    demo.generate(20, 1)
    return start_run(Mode.FULL, Trigger.CLI, "test")


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("error", [KeyboardInterrupt("at the terminal"), OSError(28, "No space left on device")])
def test_what_comes_after_the_commit_does_not_undo_it(run: Run, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def land(task: Any, landed: Any) -> None:
        if task.stage == "load":
            raise error
        real(task, landed)

    real: Callable[..., None] = loop.land
    monkeypatch.setattr(loop, "land", land)
    with pytest.raises(type(error)):
        local.execute_run(run)
    run.refresh_from_db()
    assert (run.state, run.cause) == (State.SUCCEEDED, "")
    assert set(run.tasks.values_list("state", "cause")) == {(State.SUCCEEDED, "")}
    assert Load.objects.filter(run_uuid=run.uuid).exists()


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("place", ["execute", "claim", "land", "finish"])
def test_interrupt_between_two_steps(run: Run, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step it hits: no task stays behind as running, and nothing is published unless the run has succeeded."""

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(target, name, real)
        if place == "claim":
            real(*args)
        raise KeyboardInterrupt

    targets: dict[str, tuple[Any, str]] = {
        "execute": (loop, "execute_task"),
        "claim": (loop.Task, "claim_for"),
        "land": (loop, "land"),
        "finish": (local, "finish_run"),
    }
    target, name = targets[place]
    real = getattr(target, name)
    monkeypatch.setattr(target, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        local.execute_run(run)
    run.refresh_from_db()
    published = Load.objects.filter(run_uuid=run.uuid).exists()
    assert published == (place == "finish")
    assert run.state == (State.SUCCEEDED if published else State.CANCELLED)
    assert not run.tasks.filter(state=State.RUNNING).exists()


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("outcome", ["error", "nothing"])
def test_interrupt_that_c_code_does_not_pass_on(run: Run, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library makes an error of its own of it, or drops it: the run is cancelled all the same, and by name."""

    def interrupted(task: Any, report: Any) -> Any:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        if outcome == "error":
            raise RuntimeError("user-defined function raised exception")
        return real(task, report)

    real = STAGES["extract"]
    monkeypatch.setitem(STAGES, "extract", interrupted)
    with pytest.raises(KeyboardInterrupt), interruptible():
        local.execute_run(run)
    run.refresh_from_db()
    assert (run.state, run.cause) == (State.CANCELLED, "Cancelled by SIGTERM. Nothing was published.")
    assert not Load.objects.exists()
