"""Passwords of all servers change while runs go on: no run fails, no task is done twice, and the earlier passwords are refused."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote, urlsplit

import MySQLdb
import psycopg
import redis

from apps.orchestration.models import Run, State
from tests.drills.harness import (
    FOLDER,
    Program,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_queued_run,
    wait_for_success,
    wait_until,
)
from tests.servers import MYSQL, POSTGRES, mysql, postgresql

BROKER = "CELERY_BROKER_URL"
VARIABLES = (*MYSQL, *POSTGRES, BROKER)
ADOPTED = "the server has taken the new password"
EXIT_TIMEOUT_S = 30


def drill(times: int) -> Iterator[str]:
    rounds = times or 5
    try:
        yield rotate_in_files(rounds)
        yield rotate_in_variables(rounds)
    finally:
        for user in ("drill", "drill_b"):
            drop_login(user)
    require_nothing_left()
    require_correct_warehouse()


def rotate_in_files(rounds: int) -> str:
    """First the files, then the servers: processes that run go on, and read the files again. Redis takes both passwords meanwhile."""
    password = create_login("drill")
    write_files(password)
    beat, worker = start("beat", "--pidfile="), start_worker()
    for number in range(rounds):
        run = start_run(number)
        earlier, password = password, secrets.token_hex(12)
        write_files(password)
        change_password("drill", password)
        wait_until(lambda worker=worker: ADOPTED in worker.log.read_text(), "the worker has read its files again", 20)
        next_worker = start_worker()  # which alone has the new one of Redis
        end_warmly(worker)
        forget_broker_password("drill", earlier)
        require_refused("drill", earlier)
        finish(run)
        worker = next_worker
        beat.kill()
        beat = start("beat", "--pidfile=")
    for program in (beat, worker):
        program.kill()
    return f"{rounds} rotations in files, each in the middle of a run: all runs succeeded, no task was done twice"


def rotate_in_variables(rounds: int) -> str:
    """A second login for the processes that start, until those with the first one have ended: for addresses in variables."""
    users = ("drill_b", "drill")
    passwords = {"drill": secrets.token_hex(12)}
    change_password("drill", passwords["drill"])
    worker = start_worker(**addresses("drill", passwords["drill"]))
    for number in range(rounds):
        run = start_run(number)
        new, old = users[number % 2], users[(number + 1) % 2]
        passwords[new] = create_login(new)
        next_worker = start_worker(**addresses(new, passwords[new]))
        end_warmly(worker)
        drop_login(old)
        require_refused(old, passwords[old])
        finish(run)
        worker = next_worker
    worker.kill()
    return f"{rounds} changes between two logins, each in the middle of a run: all runs succeeded, no task was done twice"


# --- Runs and processes ---


def start(kind: str, *options: str, **env: str) -> Program:
    """Start a process with the addresses in files, or with those in `env`."""
    files = {f"{name}_FILE": str(FOLDER / name) for name in VARIABLES}
    unset = [part for name in (VARIABLES if not env else ()) for part in ("-u", name)]
    return Program(kind, *options, prefix=("env", *unset), **(env or files))


def start_worker(**env: str) -> Program:
    options = ("-n", f"drill{Program.started}@%h", "--concurrency", "2", "--without-gossip", "--without-mingle")
    worker = start("worker", *options, **env)
    wait_until(worker.is_up, "a worker is ready", every=0.1)
    return worker


def start_run(number: int) -> Run:
    run = start_queued_run("full")
    wait_until(lambda: run.tasks.filter(state=State.SUCCEEDED).count() > 2 + number, "the run is under way", every=0.002)
    return run


def end_warmly(worker: Program) -> None:
    worker.process.send_signal(signal.SIGTERM)
    require(worker.process.wait(EXIT_TIMEOUT_S) == 0, "the worker did not end warmly")
    Program.alive.remove(worker)


def finish(run: Run) -> None:
    wait_for_success(run)
    retried = [f"{task}: {task.cause}" for task in run.tasks.filter(attempt__gt=1)]
    require(not retried, f"tasks were done twice: {retried}")


# --- Logins ---


def addresses(user: str, password: str) -> dict[str, str]:
    """Return all addresses with this login."""

    def replace_login(url: str) -> str:
        host = urlsplit(url).netloc.rpartition("@")[2]
        return urlsplit(url)._replace(netloc=f"{user}:{quote(password)}@{host}").geturl()

    return {name: replace_login(os.environ[name]) for name in VARIABLES}


def write_files(password: str) -> None:
    """Replace each file at once, as Kubernetes does."""
    for name, url in addresses("drill", password).items():
        new = FOLDER / f"{name}.new"
        new.write_text(url)
        new.rename(FOLDER / name)


def create_login(user: str) -> str:
    """Create a reader of the sources, a role that acts as the owner on PostgreSQL, and a user of Redis. Return their password."""
    password = secrets.token_hex(12)
    drop_login(user)
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as sources, sources.cursor() as cursor:
        cursor.execute(f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'")
        for name in MYSQL:
            cursor.execute(f"GRANT SELECT ON `{urlsplit(os.environ[name]).path[1:]}`.* TO {user}@'%'")
    with postgresql(os.environ["TEST_POSTGRES_URL"]) as warehouse:
        owner = warehouse.info.user
        warehouse.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}' IN ROLE {owner}")
        warehouse.execute(f"ALTER ROLE {user} SET role = '{owner}'")
    with broker() as client:
        client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{password}", "~*", "&*", "+@all")
    return password


def change_password(user: str, password: str) -> None:
    """Change it on the servers. Redis takes the earlier one, too."""
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as sources, sources.cursor() as cursor:
        cursor.execute(f"ALTER USER {user}@'%' IDENTIFIED BY '{password}'")
    with postgresql(os.environ["TEST_POSTGRES_URL"]) as warehouse:
        warehouse.execute(f"ALTER ROLE {user} PASSWORD '{password}'")
    with broker() as client:
        client.execute_command("ACL", "SETUSER", user, f">{password}")


def forget_broker_password(user: str, password: str) -> None:
    with broker() as client:
        client.execute_command("ACL", "SETUSER", user, f"<{password}")


def drop_login(user: str) -> None:
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as sources, sources.cursor() as cursor:
        cursor.execute(f"DROP USER IF EXISTS {user}@'%'")
    with postgresql(os.environ["TEST_POSTGRES_URL"]) as warehouse:
        warehouse.execute(f"DROP ROLE IF EXISTS {user}")
    with broker() as client:
        client.execute_command("ACL", "DELUSER", user)


def broker() -> "redis.Redis":
    return redis.Redis.from_url(os.environ["TEST_REDIS_URL"])


def require_refused(user: str, password: str) -> None:
    """Require that each server refuses a new connection with this login."""
    urls = addresses(user, password)
    for name, connect, refusal in (
        ("ORDERS_DB_URL", mysql, MySQLdb.OperationalError),
        ("DWH_URL", postgresql, psycopg.OperationalError),
        (BROKER, lambda url: redis.Redis.from_url(url).ping(), redis.AuthenticationError),
    ):
        try:
            connect(urls[name])
        except refusal:
            continue
        require(False, f"{name}: the earlier login is still taken")
