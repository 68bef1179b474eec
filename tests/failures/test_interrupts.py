"""Signals and kills at every stage: the ledger records them, the warehouse stays as it was, and `--resume` works."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import execute_from_command_line

from apps.audit.actor import os_user
from apps.demo import shop as demo
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.worker import local, loop
from apps.orchestration.worker.stages import STAGES
from apps.warehouse.loads import Load
from techmarket.commands import interruptible
from tests.failures.conftest import ON_SERVERS, SLOW, Shop, assert_one_line, needs_servers, read_message, wait_for_exit

LARGE_SLICES = {"ETL_BATCH_ORDERS": "100"}
FAST_RECOVERY = SLOW | {"ETL_LOST_AFTER_SECONDS": "5"}


@contextmanager
def lock_warehouse(shop: Shop) -> Iterator[None]:
    """Hold a lock on the warehouse, so that a load waits."""
    with closing(shop.connect("dwh")) as other:
        if ON_SERVERS:
            other.execute("LOCK TABLE fact_sales IN SHARE MODE")
        else:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


def assert_cancelled(shop: Shop, result: Any, how: str, before: str) -> None:
    assert_one_line(result, 130, f"Cancelled {how}. Nothing was published. `manage.py run_etl --resume 2` resumes it.")
    assert result.stdout == ""
    run = shop.runs()[-1]
    assert (run["id"], run["state"], run["cause"]) == (2, "cancelled", f"Cancelled {how}. Nothing was published.")
    assert not shop.tasks("running") and not shop.tasks("failed")
    causes = shop.sql("default", "SELECT t.state, a.cause FROM orchestration_attempt AS a JOIN orchestration_task AS t ON t.id = a.task_id")
    assert {(state, read_message(cause)) for state, cause in causes} <= {("cancelled", run["cause"])}
    assert shop.warehouse() == before


def assert_resumes(shop: Shop, before: str) -> None:
    """Assert that a resumed run succeeds and does not repeat the tasks that had succeeded."""
    query = "SELECT id, finished_at FROM orchestration_task WHERE run_id = 2 AND state = 'succeeded'"
    succeeded = set(shop.sql("default", query))
    result = shop.run("run_etl", "--resume", "2", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [run["state"] for run in shop.runs()] == ["succeeded", "succeeded"]
    assert succeeded and succeeded <= set(shop.sql("default", query))
    assert shop.warehouse() != before


@pytest.mark.parametrize(
    ("stage", "number", "how"),
    [("extract", signal.SIGINT, "at the terminal"), ("transform", signal.SIGTERM, "by SIGTERM"), ("transform", signal.SIGHUP, "by SIGHUP")],
)
def test_signal_during_extract_or_transform(shop: Shop, stage: str, number: int, how: str) -> None:
    before = shop.warehouse()
    # The suite itself may run under nohup, which ignores SIGHUP.
    process = shop.start("run_etl", "--mode", "full", env=SLOW, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    shop.wait_until(shop.stage_running(stage), process)
    process.send_signal(number)
    assert_cancelled(shop, wait_for_exit(process), how, before)
    if number != signal.SIGHUP:
        assert_resumes(shop, before)


def test_signal_during_the_load(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=LARGE_SLICES)
    shop.wait_until(shop.stage_running("extract"), process)
    with lock_warehouse(shop):
        shop.wait_until(shop.stage_running("load"), process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C
    assert_cancelled(shop, wait_for_exit(process), "at the terminal", before)
    assert_resumes(shop, before)


@needs_servers
def test_signal_before_the_commit(shop: Shop) -> None:
    """Everything is loaded and checked; the load waits for its task's row, which another session has locked."""
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=LARGE_SLICES | {"ETL_HEARTBEAT_SECONDS": "60", "ETL_LOST_AFTER_SECONDS": "120"})
    with closing(shop.connect("default")) as other:
        shop.wait_until(shop.stage_running("load"), process)
        other.execute("SELECT 1 FROM orchestration_task WHERE stage = 'load' FOR UPDATE")
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{shop.name('default')}' AND wait_event_type = 'Lock'"
        shop.wait_until(lambda: shop.sql("default", waiting), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        other.rollback()
    assert_cancelled(shop, wait_for_exit(process), "at the terminal", before)
    assert_resumes(shop, before)


@needs_servers
def test_signal_after_the_commit_leaves_the_run_succeeded(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", "--json", env=LARGE_SLICES)
    with closing(shop.connect("default")) as other:
        shop.wait_until(shop.stage_running("load"), process)
        other.execute("LOCK TABLE orchestration_checkresult IN ACCESS EXCLUSIVE MODE")  # written after the publish
        shop.wait_until(lambda: shop.sql("dwh", "SELECT 1 FROM etl_load WHERE run_id = 2"), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        other.rollback()
    result = wait_for_exit(process)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["status"] == "succeeded"
    assert shop.runs()[-1]["state"] == "succeeded" and not shop.tasks("cancelled")
    assert shop.warehouse() != before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see how far the start has come")
@pytest.mark.parametrize("library", ["_socket", "psycopg", "pyarrow"])
def test_signal_during_startup(shop: Shop, library: str) -> None:
    """Runs without coverage, which would load libraries before any line of ours."""
    process = shop.start("run_etl", env={"COVERAGE_PROCESS_CONFIG": ""})
    shop.wait_until(lambda: library in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    result = wait_for_exit(process)
    assert_one_line(result, 130, "Cancelled")
    assert result.stdout == ""
    assert [run["state"] for run in shop.runs()] in (["succeeded"], ["succeeded", "cancelled"])


def test_ignored_sighup_does_not_stop_the_run(shop: Shop) -> None:
    """Under nohup the terminal may close and the run continues."""
    process = shop.start("run_etl", "--quiet", env=SLOW, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    shop.wait_until(shop.stage_running("extract"), process)
    process.send_signal(signal.SIGHUP)
    result = wait_for_exit(process)
    assert (result.returncode, result.stderr) == (0, "")


# --- One at a time ---


def test_second_run_is_skipped(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env={"ETL_BATCH_ORDERS": "1"})
    shop.wait_until(shop.stage_running("extract"), process)

    second = shop.run("run_etl", "--json")
    assert process.poll() is None, "the second run must not wait for the first"
    assert_one_line(second, 3, f"Skipped: overlaps run 2 requested by {os_user()}, running since ", ", last heartbeat ")
    document = json.loads(second.stdout)
    skipped = shop.runs()[-1]["id"]
    assert (document["run"], document["status"], document["cause"]) == (skipped, "skipped", second.stderr.strip())

    resume = shop.run("run_etl", "--resume", "2")
    assert_one_line(resume, 3, f"Run 2 requested by {os_user()}, running since ", "it is active")
    assert resume.stdout == ""

    process.send_signal(signal.SIGINT)
    wait_for_exit(process)
    runs = shop.runs()
    assert [(run["state"], run["overlaps_id"]) for run in runs] == [("succeeded", None), ("cancelled", None), ("skipped", 2)]
    assert shop.warehouse() == before


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_resume_of_an_ended_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    states = (State.SUCCEEDED, 3, "has succeeded already; there is nothing to resume."), (State.SKIPPED, 2, "Start a new run.")
    for state, code, part in (*states, (None, 2, "There is no run 999. `manage.py run_etl` starts a new one.")):
        number = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="test", state=state).pk if state else 999
        with pytest.raises(SystemExit) as end:
            execute_from_command_line(["manage.py", "run_etl", "--resume", str(number)])
        out, err = capsys.readouterr()
        assert (end.value.code, out, err.count("\n")) == (code, "", 1) and part in err
    assert Run.objects.count() == 2


# --- Killed ---


def kill_during(shop: Shop, stage: str) -> None:
    process = shop.start("run_etl", "--mode", "full", env=FAST_RECOVERY)
    shop.wait_until(shop.stage_running(stage), process)
    process.kill()
    process.communicate()


def test_killed_run_is_lost_without_heartbeats(shop: Shop) -> None:
    before = shop.warehouse()
    kill_during(shop, "transform")
    shutil.rmtree(shop.folder / "processes")  # as on another machine, where nothing is known of the process
    skipped = shop.run("run_etl", env=FAST_RECOVERY)
    assert_one_line(skipped, 3, "Skipped: overlaps run 2 requested by ", ", last heartbeat ", "Run it again ")
    assert shop.runs()[1]["state"] == "running"
    time.sleep(5)
    assert shop.run("run_etl", env=FAST_RECOVERY).returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "lost", "skipped", "succeeded"]
    lost = shop.runs()[1]
    assert "stopped sending heartbeats at" in lost["cause"] and lost["cause_kind"] == "machine"
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_task WHERE run_id = 2 AND state = 'running'") == [(0,)]
    assert shop.warehouse() != before


def test_killed_run_is_lost_at_once_on_its_own_machine(shop: Shop) -> None:
    kill_during(shop, "transform")
    assert shop.run("run_etl", env=FAST_RECOVERY).returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "lost", "succeeded"]
    assert "has ended in the middle of its work. Nothing was published." in shop.runs()[1]["cause"]
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_task WHERE run_id = 2 AND state = 'running'") == [(0,)]


def test_killed_run_that_had_published_succeeds(shop: Shop) -> None:
    """The process died between the warehouse's commit and the ledger's."""
    process = shop.start("run_etl", "--mode", "full", env=FAST_RECOVERY | LARGE_SLICES)
    shop.wait_until(shop.stage_running("extract"), process)
    with lock_warehouse(shop):
        shop.wait_until(shop.stage_running("load"), process)
        process.kill()
        process.communicate()
    [(uuid,)] = shop.sql("default", "SELECT uuid FROM orchestration_run WHERE id = 2")
    columns = "mode, window_start, window_end, high_water_mark, counts, fingerprints, rules, published_at"
    shop.sql("dwh", f"INSERT INTO etl_load (run_uuid, run_id, sequence, {columns}) SELECT '{uuid}', 2, 2, {columns} FROM etl_load")
    long_ago = "'2026-01-01 00:00:00'"
    for table in ("orchestration_run", "orchestration_task"):
        shop.sql("default", f"UPDATE {table} SET heartbeat_at = {long_ago} WHERE heartbeat_at IS NOT NULL")
    assert shop.run("run_etl", "--quiet", env=FAST_RECOVERY).returncode == 0
    assert [run["state"] for run in shop.runs()] == ["succeeded", "succeeded", "succeeded"]


# --- In this process, where the test can choose the moment ---


@pytest.fixture
def run() -> Run:
    demo.generate(20, 1)
    return start_run(Mode.FULL, Trigger.CLI, "test")


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("error", [KeyboardInterrupt("at the terminal"), OSError(28, "No space left on device")])
def test_error_after_the_commit_leaves_the_run_succeeded(run: Run, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def land(task: Any, landed: Any) -> None:
        if task.stage == "load":
            raise error
        real(task, landed)

    real: Callable[..., None] = loop.land
    monkeypatch.setattr(loop, "land", land)
    with pytest.raises(type(error)) if isinstance(error, KeyboardInterrupt) else nullcontext():
        local.execute_run(run)
    run.refresh_from_db()
    assert (run.state, run.cause) == (State.SUCCEEDED, "")
    assert set(run.tasks.values_list("state", "cause")) == {(State.SUCCEEDED, "")}
    assert Load.objects.filter(run_uuid=run.uuid).exists()


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("place", ["execute", "claim", "land", "finish"])
def test_interrupt_between_two_steps(run: Run, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever step is interrupted, no task stays running, and nothing is published unless the run has succeeded."""

    def interrupt(*args: Any) -> Any:
        monkeypatch.setattr(target, name, real)
        if place == "claim":
            real(*args)
        raise KeyboardInterrupt

    targets: dict[str, tuple[Any, str]] = {
        "execute": (loop, "execute_claimed"),
        "claim": (loop, "claim_next_task"),
        "land": (loop, "land"),
        "finish": (local, "finish_run"),
    }
    target, name = targets[place]
    real = getattr(target, name)
    monkeypatch.setattr(target, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        local.execute_run(run)
    run.refresh_from_db()
    published = Load.objects.filter(run_uuid=run.uuid).exists()
    assert published == (place == "finish")
    assert run.state == (State.SUCCEEDED if published else State.CANCELLED)
    assert not run.tasks.filter(state=State.RUNNING).exists()


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("outcome", ["error", "nothing"])
def test_interrupt_swallowed_by_c_code_cancels_the_run(run: Run, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library turns the interrupt into its own error, or drops it: the run is still cancelled, with the signal as the cause."""

    def interrupt(task: Any, report: Any) -> Any:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        if outcome == "error":
            raise RuntimeError("user-defined function raised exception")
        return real(task, report)

    real = STAGES["extract"]
    monkeypatch.setitem(STAGES, "extract", interrupt)
    with pytest.raises(KeyboardInterrupt), interruptible():
        local.execute_run(run)
    run.refresh_from_db()
    assert (run.state, run.cause) == (State.CANCELLED, "Cancelled by SIGTERM. Nothing was published.")
    assert not Load.objects.exists()
