"""Run a command with real servers: `python tests/servers.py [--as-in-production] -- COMMAND...`.

MariaDB (standing in for MySQL), PostgreSQL 15 or newer and Redis are installed from Debian's packages where they are
missing, started on free ports of 127.0.0.1 with their data in a folder of their own, and stopped and removed when the
command ends, however it ends. Servers that exist are used instead where TEST_MYSQL_URL, TEST_POSTGRES_URL or
TEST_REDIS_URL name them; there the databases carry this process's id in their names and are dropped again.
The servers started here are fast and not durable; with --as-in-production they are durable and have more memory, for benchmarks.
"""

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import MySQLdb
import psycopg
import redis

UNAVAILABLE = 4
WORKERS = 16  # of pytest-xdist, at most; Redis has as many databases
START_TIMEOUT_S = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MYSQL = {"AUTH_DB_URL": "auth_db", "CATALOG_DB_URL": "catalog_db", "ORDERS_DB_URL": "orders_db", "PAYMENTS_DB_URL": "payments_db"}
POSTGRES = {"CONTROL_DB_URL": "control", "DWH_URL": "dwh"}
QUICK_MYSQL = {"innodb-buffer-pool-size": "256M", "innodb-flush-log-at-trx-commit": "0", "innodb-doublewrite": "0"}
DURABLE_MYSQL = {"innodb-buffer-pool-size": "1G"}
QUICK_POSTGRES = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
DURABLE_POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "4GB", "shared_preload_libraries": "pg_stat_statements"}


class Unavailable(Exception):
    """A server is not available; the message says what to do."""


class Server:
    """One server with its data in its own folder. Under root it runs as `nobody`: PostgreSQL and MariaDB refuse root."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "log"
        self.port = free_port()
        # Immediate stop: the data is not needed. PostgreSQL's SIGQUIT also frees its shared memory.
        self.stop_signal = signal.SIGQUIT if folder.name == "postgres" else signal.SIGKILL
        self.process: subprocess.Popen[bytes] | None = None
        self.nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        folder.mkdir(mode=0o700)
        if self.nobody:
            os.chown(folder, self.nobody.pw_uid, self.nobody.pw_gid)

    def popen(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start `command` in a new session, so that Ctrl-C does not reach the server before the tests that use it."""
        rights: dict[str, Any] = {"user": self.nobody.pw_uid, "group": self.nobody.pw_gid, "extra_groups": []} if self.nobody else {}
        # The kernel stops the server if this process is killed and cannot do it.
        guard = (
            ["setpriv", "--pdeathsig", self.stop_signal.name.removeprefix("SIG")]
            if sys.platform == "linux" and shutil.which("setpriv")
            else []
        )
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "TZ": "UTC"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*guard, *map(str, command)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **rights,
            )

    def prepare(self, *command: str | Path) -> None:
        self.process = self.popen(*command)
        if self.process.wait(START_TIMEOUT_S) != 0:
            raise Unavailable(f"{Path(command[0]).name} failed:\n{self.tail()}")

    def start(self, *command: str | Path, answers: Callable[[], object]) -> None:
        self.process = self.popen(*command)
        wait_until_ready(
            answers,
            f"{Path(command[0]).name} does not answer",
            alive=lambda: self.process is not None and self.process.poll() is None,
            log=self,
        )

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
            self.process.wait()


def wait_until_ready(
    answers: Callable[[], object], failure: str, alive: Callable[[], bool] = lambda: True, log: Server | None = None
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            answers()
            return
        except (MySQLdb.Error, psycopg.Error, redis.RedisError) as error:
            if not alive() or time.monotonic() > deadline:
                raise Unavailable(f"{failure}: {error}\n{log.tail() if log else ''}".rstrip()) from None
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- Programs ---


def mariadbd() -> Path | None:
    return program("mariadbd", "/usr/sbin", "/usr/local/sbin", "/usr/libexec")


def postgres() -> Path | None:
    """Return the oldest installed PostgreSQL from 15 on: 15 is the oldest supported version."""
    found: dict[int, Path] = {}
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin"), *map(Path, os.get_exec_path())]
    for folder in folders:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True).stdout
            version = re.search(r"\d+", answer)
            if version and int(version[0]) >= 15:
                found.setdefault(int(version[0]), folder / "postgres")
    return found[min(found)] if found else None


def redis_server() -> Path | None:
    return program("redis-server", "/usr/local/bin")


def program(name: str, *folders: str) -> Path | None:
    path = shutil.which(name, path=os.pathsep.join([*os.get_exec_path(), *folders]))
    return Path(path) if path else None


def need(find: Callable[[], Path | None], name: str, variable: str, *packages: str) -> Path:
    """Return the program; install it from Debian's packages where it is missing and this user is root. Raises Unavailable."""
    path = find()
    if path:
        return path
    install = f"apt-get install -y {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise Unavailable(f"there is no {name} here; install it, or set {variable}")
    if os.geteuid() != 0:
        raise Unavailable(f"there is no {name} here; run: sudo {install}   (or set {variable})")
    with one_at_a_time("installing"), prevent_service_start():
        path = find()
        if path:
            return path
        print(f"servers: installing {name} ({' '.join(packages)})", flush=True)
        subprocess.run(["apt-get", "update", "-q"], capture_output=True)
        options = ["--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        result = subprocess.run([*install.split(), *options], env=environment, capture_output=True, text=True)
    path = find()
    if not path:
        raise Unavailable(f"{install} brought no {name}; set {variable} instead\n{(result.stdout + result.stderr)[-1500:]}")
    return path


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Hold a lock on `what` across the processes of this machine: tests run in parallel."""
    with (Path(tempfile.gettempdir()) / f"techmarket-{what}-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def prevent_service_start() -> Iterator[None]:
    """Keep Debian's packages from starting their services. An existing policy file belongs to the machine's owner and is left alone."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


# --- Kinds of server: each function returns the URL of a ready server without databases ---


def start_mysql(server: Server, durable: bool = False) -> str:
    """Start MariaDB, configured like a production MySQL 8 where their defaults differ."""
    daemon = need(mariadbd, "MariaDB server", "TEST_MYSQL_URL", "mariadb-server-core", "mariadb-client-core")
    need(lambda: program("mariadb-dump"), "mariadb-dump", "TEST_MYSQL_URL", "mariadb-client")
    password = secrets.token_hex(16)
    data, setup = server.folder / "data", server.folder / "setup.sql"
    setup.write_text(f"CREATE USER test@'127.0.0.1' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO test@'127.0.0.1' WITH GRANT OPTION;\n")
    if server.nobody:
        os.chown(setup, server.nobody.pw_uid, server.nobody.pw_gid)
    installer = need(
        lambda: program("mariadb-install-db"), "mariadb-install-db", "TEST_MYSQL_URL", "mariadb-server-core", "mariadb-client-core"
    )
    server.prepare(installer, "--no-defaults", f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=socket")
    url = f"mysql://test:{password}@127.0.0.1:{server.port}"
    server.start(
        daemon,
        "--no-defaults",
        f"--datadir={data}",
        f"--tmpdir={server.folder}",  # in /tmp, each server that starts deletes the temporary files of the others
        f"--init-file={setup}",
        f"--socket={server.folder / 'sock'}",
        f"--pid-file={server.folder / 'pid'}",
        "--bind-address=127.0.0.1",
        f"--port={server.port}",
        "--skip-name-resolve",
        "--log-warnings=1",
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_unicode_520_ci",
        "--sql-mode=ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
        "--default-time-zone=+00:00",
        "--explicit-defaults-for-timestamp=ON",
        "--max-allowed-packet=64M",
        "--local-infile=ON",
        *(f"--{name}={value}" for name, value in (DURABLE_MYSQL if durable else QUICK_MYSQL).items()),
        answers=lambda: mysql(url).close(),
    )
    return url


def start_postgres(server: Server, durable: bool = False) -> str:
    daemon = need(postgres, "PostgreSQL 15 or newer", "TEST_POSTGRES_URL", *postgres_package())
    password = secrets.token_hex(16)
    secret, data = server.folder / "password", server.folder / "data"
    secret.write_text(password)
    if server.nobody:
        os.chown(secret, server.nobody.pw_uid, server.nobody.pw_gid)
    locale = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
    options = ("--username=test", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", f"--locale={locale}", "--no-sync")
    server.prepare(daemon.with_name("initdb"), f"--pgdata={data}", *options)
    url = f"postgres://test:{password}@127.0.0.1:{server.port}"
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(server.port),
        "unix_socket_directories": "",
        "timezone": "UTC",
        "max_connections": "200",
    } | (DURABLE_POSTGRES if durable else QUICK_POSTGRES)
    flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
    server.start(daemon, "-D", data, *flags, answers=lambda: postgresql(url).close())
    return url


def postgres_package() -> list[str]:
    """Return the package to install: Debian 12 has postgresql-15, later releases a newer version as `postgresql`."""
    if not shutil.which("apt-cache"):
        return ["postgresql"]
    known = subprocess.run(["apt-cache", "show", "postgresql-15"], capture_output=True).returncode == 0
    return ["postgresql-15"] if known else ["postgresql"]


def start_redis(server: Server) -> str:
    daemon = need(redis_server, "Redis", "TEST_REDIS_URL", "redis-server")
    url = f"redis://127.0.0.1:{server.port}/0"
    options = ("--bind", "127.0.0.1", "--port", str(server.port), "--dir", server.folder, "--save", "", "--appendonly", "no")
    server.start(daemon, *options, answers=lambda: ping(url))
    return url


# --- Connections ---


def mysql(url: str) -> Any:
    address = urlsplit(url)
    return MySQLdb.connect(
        host=address.hostname or "127.0.0.1",
        port=address.port or 3306,
        user=unquote(address.username or ""),
        password=unquote(address.password or ""),
        connect_timeout=10,
        autocommit=True,
    )


def postgresql(url: str) -> psycopg.Connection[Any]:
    database = urlsplit(url).path.strip("/") or "postgres"
    return psycopg.connect(with_database(url, database), connect_timeout=10, autocommit=True)


def ping(url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=10) as client:
        client.ping()


def with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def databases(connection: Any, names: list[str], quote: str, options: str, keep: bool) -> Iterator[None]:
    """Create empty databases with these names; unless `keep` (the server is removed), drop them and Django's test databases afterwards."""
    with contextlib.closing(connection), connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"CREATE DATABASE {quote}{name}{quote} {options}")
        yield
        workers = ("", *(f"_gw{number}" for number in range(WORKERS)))
        for name in [] if keep else [*names, *(f"test_{name}{worker}" for name in names for worker in workers)]:
            cursor.execute(f"DROP DATABASE IF EXISTS {quote}{name}{quote}")


# --- Command ---


@contextlib.contextmanager
def address(kind: str, folder: Path, start: Callable[[Server], str], answers: Callable[[str], object]) -> Iterator[tuple[str, bool]]:
    """Yield the URL of a server of this kind, and whether it was started here."""
    variable = f"TEST_{kind.upper()}_URL"
    given = os.environ.get(variable, "").strip()
    if given:
        try:
            answers(given)
        except (MySQLdb.Error, psycopg.Error, redis.RedisError, ValueError) as error:
            raise Unavailable(f"{variable} is set, and the server that it names does not answer: {error}") from None
        yield given, False
        return
    server = Server(folder / kind)
    try:
        yield start(server), True
    finally:
        server.stop()


@contextlib.contextmanager
def servers(durable: bool = False) -> Iterator[dict[str, str]]:
    """Yield the environment variables that name the databases and the broker."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="techmarket-servers-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        began = time.monotonic()
        mysql_url, mysql_ours = stack.enter_context(
            address("mysql", folder, partial(start_mysql, durable=durable), lambda url: mysql(url).close())
        )
        postgres_url, postgres_ours = stack.enter_context(
            address("postgres", folder, partial(start_postgres, durable=durable), lambda url: postgresql(url).close())
        )
        redis_url, _ = stack.enter_context(address("redis", folder, start_redis, ping))
        mysql_names = {variable: name if mysql_ours else f"{name}_{os.getpid()}" for variable, name in MYSQL.items()}
        postgres_names = {variable: name if postgres_ours else f"{name}_{os.getpid()}" for variable, name in POSTGRES.items()}
        sources, warehouse = mysql(mysql_url), postgresql(postgres_url)
        with sources.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            version = cursor.fetchone()[0]
        versions = f"MySQL {version}, PostgreSQL {warehouse.info.parameter_status('server_version')}"
        stack.enter_context(databases(sources, [*mysql_names.values()], "`", "CHARACTER SET utf8mb4", mysql_ours))
        stack.enter_context(databases(warehouse, [*postgres_names.values()], '"', "", postgres_ours))
        print(f"servers: {versions} and Redis answer after {time.monotonic() - began:.1f} s", flush=True)
        yield (
            {variable: with_database(mysql_url, name) for variable, name in mysql_names.items()}
            | {variable: with_database(postgres_url, name) for variable, name in postgres_names.items()}
            | {"TEST_MYSQL_URL": mysql_url, "TEST_POSTGRES_URL": postgres_url, "TEST_REDIS_URL": redis_url, "CELERY_BROKER_URL": redis_url}
        )


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run the command and return its exit code. It ends with this process; at Ctrl-C, which it receives too, it has 10 s to clean up."""
    child = subprocess.Popen(command, env=environment)
    grace = 0.0
    try:
        code = child.wait()
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        grace = 10.0
        raise
    finally:
        for end in (child.terminate, child.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace)
            end()
            grace = 10.0
        child.wait()


def stop(number: int, frame: object) -> None:
    """Shut down in order at the first signal, and ignore later ones."""
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    durable = arguments[:1] == ["--as-in-production"]
    command = arguments[1 + durable :]
    if arguments[durable : 1 + durable] != ["--"] or not command:
        print("usage: python tests/servers.py [--as-in-production] -- COMMAND...", file=sys.stderr)
        return 2
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        with servers(durable) as variables:
            return run(command, os.environ | variables)
    except Unavailable as error:
        line = "#" * 78
        print(f"{line}\nNOT TESTED ON SERVERS\n{error}\n{line}", file=sys.stderr)
        return UNAVAILABLE
    except FileNotFoundError as error:
        print(f"servers: {error}", file=sys.stderr)
        return 127
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
