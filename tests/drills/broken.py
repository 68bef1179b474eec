"""A server goes away in the middle of a run: it recovers by itself or fails with the cause, never hangs, never half-publishes."""

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
from tests.drills.ground import (
    change_shop,
    ended,
    nothing_left,
    promise,
    right_star,
    rows,
    run_here,
    running,
    start,
    start_beat,
    state,
    stop_all,
    until,
    workers,
)
from tests.drills.proxy import CUT, PASS, SWALLOW, Proxy
from tests.servers import redis_server

HANG = 150  # seconds: a run that has not ended by then hangs


class Server:
    """A server of tests/servers.py: killed, and started again as it was."""

    def __init__(self, pid: int, program: Path | None = None, options: Sequence[str] = ()):
        self.pid = pid
        folder = Path(f"/proc/{pid}")
        self.options = options or [part.decode() for part in (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")[1:]]
        self.cwd, self.program, self.owner = (folder / "cwd").resolve(), program or (folder / "exe").resolve(), folder.stat().st_uid

    def restart(self, number: signal.Signals, *more: str) -> None:
        os.kill(self.pid, number)
        until(lambda: not self.lives(), "the server is down", 20)
        rights = {"user": self.owner, "group": pwd.getpwuid(self.owner).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = ["setpriv", "--pdeathsig", "QUIT", str(self.program), *self.options, *more]
        log = (self.cwd / "log").open("ab")
        self.pid = subprocess.Popen(command, cwd=self.cwd, stdout=log, stderr=log, start_new_session=True, **rights).pid  # type: ignore[call-overload]

    def lives(self) -> bool:
        """A zombie waits for its parent; it does not live."""
        try:
            return ") Z " not in Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False


def drill(times: int) -> Iterator[str]:
    run_here("full")
    for name, case in list(CASES.items()) * (times or 1):
        change_shop(seed=len(name) * 100)
        before = state()
        run, took = case()
        promise(run.state == State.SUCCEEDED or (run.state == State.FAILED and run.cause), f"{name}: the run is {run.state}: {run.cause}")
        promise((state() == before) == (run.state != State.SUCCEEDED), f"{name}: {run.state}, but the star is another")
        again = run.tasks.filter(attempt__gt=1).count()
        until(lambda run=run: not run.tasks.filter(state=State.RUNNING).exists(), f"{name}: no task of a run that is over runs", 30)
        stop_all()
        nothing_left()
        if run.state == State.FAILED:
            run_here("full")
        right_star()
        yield f"{name}: {run.state} {took:.1f} s after it, {again} tasks tried again. {run.cause}"


def after(happens: Callable[[], object], stage: str = Stage.EXTRACT, done: int = 3, delay: float = 0.0) -> tuple[Run, float]:
    """A run in which this happens in that stage; seconds from then to its end."""
    run = start("full")
    until(lambda: run.tasks.filter(state=State.SUCCEEDED).count() > done and running(run, stage)(), f"{stage} is under way", every=0.001)
    time.sleep(delay)
    happens()
    began = time.monotonic()
    until(lambda: not active(run), f"run {run.pk} ends", HANG, every=0.1)
    return ended(run), time.monotonic() - began


def active(run: Run) -> bool:
    """Also while the ledger itself is away."""
    try:
        run.refresh_from_db()
    except Exception:
        connections.close_all()
        return True
    return run.is_active


def redis_killed(*more: str) -> tuple[Run, float]:
    client = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"], decode_responses=True)
    # Redis writes over its command line, and its program goes by several names.
    options = [part for name in ("bind", "port", "dir", "save") for part in (f"--{name}", client.config_get(name)[name])]
    server = Server(int(client.info()["process_id"]), redis_server(), options)
    if more:
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")
        until(lambda: not client.info()["aof_rewrite_in_progress"] and client.info()["aof_enabled"], "Redis keeps a log", 10)
        time.sleep(1)
    start_beat()
    workers(2)
    found = after(lambda: server.restart(signal.SIGKILL, *more))
    client.ping()
    return found


def postgres_killed(stage: str, done: int) -> tuple[Run, float]:
    folder = rows("dwh", "SHOW data_directory")[0][0]
    server = Server(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    start_beat()
    workers(2)
    found = after(lambda: server.restart(signal.SIGQUIT), stage, done, 0.05)
    connections.close_all()
    until(answers, "PostgreSQL answers", 30, every=0.1)
    return found


def answers() -> bool:
    try:
        psycopg.connect(os.environ["DWH_URL"]).close()
    except psycopg.OperationalError:
        return False
    return True


def through(variable: str, mode: str, bytes_more: int, stage: str, done: int, heals: float) -> tuple[Run, float]:
    """A network that breaks in the middle of a stage, for so many seconds."""
    with Proxy(os.environ[variable]) as proxy:
        start_beat()
        workers(2, **{variable: proxy.url, "SOURCE_READ_TIMEOUT": "5"})

        def breaks() -> None:
            proxy.become(mode, bytes_more)
            until(lambda: proxy.after < 0, "the network breaks", 30)
            time.sleep(heals)
            proxy.become(PASS)

        return after(breaks, stage, done)


CASES: dict[str, Callable[[], tuple[Run, float]]] = {
    "Redis killed, no AOF": redis_killed,
    "Redis killed, AOF": lambda: redis_killed("--appendonly", "yes"),
    "PostgreSQL killed in the load": lambda: postgres_killed(Stage.LOAD, 0),
    "PostgreSQL killed in an extract": lambda: postgres_killed(Stage.EXTRACT, 3),
    "MariaDB cut for a moment in an extract": lambda: through("ORDERS_DB_URL", CUT, 30_000, Stage.EXTRACT, 3, 0.0),
    "MariaDB cut for 3 s in an extract": lambda: through("ORDERS_DB_URL", CUT, 30_000, Stage.EXTRACT, 3, 3.0),
    "MariaDB silent for 20 s in an extract": lambda: through("ORDERS_DB_URL", SWALLOW, 30_000, Stage.EXTRACT, 3, 20.0),
    "warehouse cut in the load": lambda: through("DWH_URL", CUT, 200_000, Stage.LOAD, 0, 0.0),
}
