"""A server fails in the middle of a run: the run recovers or fails with the cause; it never hangs or publishes half."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import redis
from django.db import connections

from apps.orchestration.models import Run, Stage, State
from tests.drills.harness import (
    change_shop,
    execute_here,
    query,
    read_state,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_beat,
    start_queued_run,
    stop_all,
    task_running,
    wait_for_end,
    wait_until,
    workers,
)
from tests.drills.proxy import CUT, PASS, SWALLOW, Proxy
from tests.servers import redis_server

HANG_S = 150  # a run that has not ended by then hangs


class Server:
    """A server started by tests/servers.py, which can be killed and started again with the same options."""

    def __init__(self, pid: int, program: Path | None = None, options: Sequence[str] = ()):
        self.pid = pid
        folder = Path(f"/proc/{pid}")
        self.options = options or [part.decode() for part in (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")[1:]]
        self.cwd, self.program, self.owner = (folder / "cwd").resolve(), program or (folder / "exe").resolve(), folder.stat().st_uid

    def restart(self, number: signal.Signals, *more: str) -> None:
        os.kill(self.pid, number)
        wait_until(lambda: not self.is_alive(), "the server is down", 20)
        identity = {"user": self.owner, "group": pwd.getpwuid(self.owner).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = ["setpriv", "--pdeathsig", "QUIT", str(self.program), *self.options, *more]
        log = (self.cwd / "log").open("ab")
        self.pid = subprocess.Popen(command, cwd=self.cwd, stdout=log, stderr=log, start_new_session=True, **identity).pid  # type: ignore[call-overload]

    def is_alive(self) -> bool:
        """Return True unless the process has exited or is a zombie."""
        try:
            return ") Z " not in Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False


def drill(times: int) -> Iterator[str]:
    execute_here("full")
    for name, case in list(CASES.items()) * (times or 1):
        change_shop(seed=len(name) * 100)
        before = read_state()
        run, took = case()
        require(run.state == State.SUCCEEDED or (run.state == State.FAILED and run.cause), f"{name}: the run is {run.state}: {run.cause}")
        require((read_state() == before) == (run.state != State.SUCCEEDED), f"{name}: {run.state}, but the warehouse has changed")
        retried = run.tasks.filter(attempt__gt=1).count()
        wait_until(lambda run=run: not run.tasks.filter(state=State.RUNNING).exists(), f"{name}: no task of a run that is over runs", 30)
        stop_all()
        require_nothing_left()
        if run.state == State.FAILED:
            execute_here("full")
        require_correct_warehouse()
        yield f"{name}: {run.state} {took:.1f} s after it, {retried} tasks tried again. {run.cause}"


def run_with(event: Callable[[], object], stage: str = Stage.EXTRACT, done: int = 3, delay: float = 0.0) -> tuple[Run, float]:
    """Execute a run and cause the event during a stage. Return the run and the seconds from the event to its end."""
    run = start_queued_run("full")
    wait_until(
        lambda: run.tasks.filter(state=State.SUCCEEDED).count() > done and task_running(run, stage)(), f"{stage} is under way", every=0.001
    )
    time.sleep(delay)
    event()
    began = time.monotonic()
    wait_until(lambda: not is_active(run), f"run {run.pk} ends", HANG_S, every=0.1)
    return wait_for_end(run), time.monotonic() - began


def is_active(run: Run) -> bool:
    """Return True also while the ledger itself is unreachable."""
    try:
        run.refresh_from_db()
    except Exception:
        connections.close_all()
        return True
    return run.is_active


def kill_redis(*more: str) -> tuple[Run, float]:
    client = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"], decode_responses=True)
    # Redis overwrites its command line, and its executable has several names.
    options = [part for name in ("bind", "port", "dir", "save") for part in (f"--{name}", client.config_get(name)[name])]
    server = Server(int(client.info()["process_id"]), redis_server(), options)
    if more:
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")
        wait_until(lambda: not client.info()["aof_rewrite_in_progress"] and client.info()["aof_enabled"], "Redis keeps a log", 10)
        time.sleep(1)
    start_beat()
    workers(2)
    result = run_with(lambda: server.restart(signal.SIGKILL, *more))
    client.ping()
    return result


def kill_postgres(stage: str, done: int) -> tuple[Run, float]:
    folder = query("dwh", "SHOW data_directory")[0][0]
    server = Server(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    start_beat()
    workers(2)
    result = run_with(lambda: server.restart(signal.SIGQUIT), stage, done, 0.05)
    connections.close_all()
    wait_until(postgres_answers, "PostgreSQL answers", 30, every=0.1)
    return result


def postgres_answers() -> bool:
    try:
        psycopg.connect(os.environ["DWH_URL"]).close()
    except psycopg.OperationalError:
        return False
    return True


def break_network(variable: str, mode: str, bytes_more: int, stage: str, done: int, heal_after_s: float) -> tuple[Run, float]:
    """Break the network to one server in the middle of a stage, for `heal_after_s` seconds."""
    with Proxy(os.environ[variable]) as proxy:
        start_beat()
        workers(2, **{variable: proxy.url, "SOURCE_READ_TIMEOUT": "5"})

        def break_and_heal() -> None:
            proxy.set_mode(mode, bytes_more)
            wait_until(lambda: proxy.after < 0, "the network breaks", 30)
            time.sleep(heal_after_s)
            proxy.set_mode(PASS)

        return run_with(break_and_heal, stage, done)


CASES: dict[str, Callable[[], tuple[Run, float]]] = {
    "Redis killed, no AOF": kill_redis,
    "Redis killed, AOF": lambda: kill_redis("--appendonly", "yes"),
    "PostgreSQL killed in the load": lambda: kill_postgres(Stage.LOAD, 0),
    "PostgreSQL killed in an extract": lambda: kill_postgres(Stage.EXTRACT, 3),
    "MariaDB cut for a moment in an extract": lambda: break_network("ORDERS_DB_URL", CUT, 30_000, Stage.EXTRACT, 3, 0.0),
    "MariaDB cut for 3 s in an extract": lambda: break_network("ORDERS_DB_URL", CUT, 30_000, Stage.EXTRACT, 3, 3.0),
    "MariaDB silent for 20 s in an extract": lambda: break_network("ORDERS_DB_URL", SWALLOW, 30_000, Stage.EXTRACT, 3, 20.0),
    "warehouse cut in the load": lambda: break_network("DWH_URL", CUT, 200_000, Stage.LOAD, 0, 0.0),
}
