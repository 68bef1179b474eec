"""A whole server restarted during a run, which succeeds by its retries, or fails with one line and is resumed.

The ledger tells the truth about what was published.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.failures.advice.own import OwnServer, OwnShop, own_shop
from tests.failures.conftest import SLOW, needs_servers, wait_for_exit

pytestmark = [needs_servers, pytest.mark.process, pytest.mark.servers]
FAST, IMMEDIATE, KILL = signal.SIGINT, signal.SIGQUIT, signal.SIGKILL  # PostgreSQL's kinds of shutdown
RUN = ("run_etl", "--quiet", "--mode", "full")
PATIENT = SLOW | {"ETL_ATTEMPTS": "3", "ETL_RETRY_SECONDS": "1"}
IMPATIENT = SLOW | {"ETL_ATTEMPTS": "1"}


@pytest.fixture(scope="module")
def shop() -> Iterator[OwnShop]:
    with own_shop() as shop:
        yield shop


@pytest.fixture(autouse=True)
def changes(shop: OwnShop) -> Iterator[None]:
    assert shop.run("generate_data", "--changes", "20", "--quiet").returncode == 0
    yield
    assert_truth(shop)
    assert shop.run("reconcile").returncode == 0


def restart(server: OwnServer, how: signal.Signals, away_s: float = 0.0) -> None:
    server.end(how)
    time.sleep(away_s)
    server.restart()


def assert_truth(shop: OwnShop) -> None:
    """Assert that the runs which the ledger calls succeeded are those that the warehouse has."""
    runs = shop.sql("default", "SELECT id, state FROM orchestration_run WHERE NOT dry_run")
    published = {number for (number,) in shop.sql("dwh", "SELECT run_id FROM etl_load")}
    assert {number for number, state in runs if state == "succeeded"} == published
    assert not [number for number, state in runs if state in ("queued", "running")]


def assert_ended_well(shop: OwnShop, result: "subprocess.CompletedProcess[str]") -> str:
    """Assert what was seen: success, or one line and a run that can be resumed. Return the state before that."""
    assert "Traceback" not in result.stderr
    run = shop.runs()[-1]
    if result.returncode:
        assert result.stderr.endswith(".\n") and result.stderr.count("\n") == 1, result.stderr
        assert "nothing was published" not in result.stderr.lower() or run["state"] != "succeeded"
        again = shop.run("run_etl", "--quiet", "--resume", str(run["id"]))
        assert again.returncode == 0 or "has succeeded already" in again.stderr, again.stderr
    assert shop.runs()[-1]["state"] == "succeeded"
    return str(run["state"])


def wait_for_stage(stage: str) -> Callable[[OwnShop], bool]:
    return lambda shop: shop.stage_running(stage)()


def is_committing(shop: OwnShop) -> bool:
    """Return True if the warehouse's commit is under way: a trigger that is deferred to it sleeps."""
    return bool(shop.sql("dwh", "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"))


MOMENTS = {"extract": wait_for_stage("extract"), "load": wait_for_stage("load"), "commit": is_committing}


@pytest.fixture
def slow_commit(shop: OwnShop) -> Iterator[None]:
    shop.sql("dwh", "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(2); RETURN NULL; END$$")
    shop.sql(
        "dwh",
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON etl_load DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    yield
    shop.sql("dwh", "DROP FUNCTION wait CASCADE")


@pytest.mark.parametrize("env", [PATIENT, IMPATIENT], ids=["retries", "one attempt"])
@pytest.mark.parametrize("how", [FAST, IMMEDIATE], ids=["fast", "immediate"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.usefixtures("slow_commit")
def test_warehouse_and_ledger_restarted(shop: OwnShop, moment: str, how: signal.Signals, env: dict[str, str]) -> None:
    process = shop.start(*RUN, env=env)
    shop.wait_until(lambda: MOMENTS[moment](shop), process)
    restart(shop.warehouse_server, how)
    state = assert_ended_well(shop, wait_for_exit(process))
    assert state == "succeeded" or env is IMPATIENT


def test_restart_after_the_commit(shop: OwnShop) -> None:
    """The warehouse has committed, and waits for a standby that is not there; so its answer never comes."""
    options = shop.warehouse_server.options
    shop.administer("default", "ALTER DATABASE control SET synchronous_commit = local")
    shop.warehouse_server.options = (*options, "-c", "synchronous_standby_names=nobody")
    restart(shop.warehouse_server, FAST)
    process = shop.start(*RUN, env=PATIENT)
    shop.wait_until(lambda: shop.sql("dwh", "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), process)
    shop.warehouse_server.options = options
    restart(shop.warehouse_server, IMMEDIATE)  # a fast shutdown would wait for the standby, too
    result = wait_for_exit(process)
    assert assert_ended_well(shop, result) == "succeeded", result.stderr


@pytest.mark.parametrize("env", [PATIENT, IMPATIENT], ids=["retries", "one attempt"])
@pytest.mark.parametrize("how", [signal.SIGTERM, KILL], ids=["stopped", "killed"])
def test_sources_restarted_during_the_extract(shop: OwnShop, how: signal.Signals, env: dict[str, str]) -> None:
    process = shop.start(*RUN, env=env)
    shop.wait_until(shop.stage_running("extract"), process)
    restart(shop.sources, how)
    state = assert_ended_well(shop, wait_for_exit(process))
    assert state == "succeeded" or env is IMPATIENT
