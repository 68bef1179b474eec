"""Logins that a server refuses, in a language other than English: each has its own message, and the step that it names helps.

PostgreSQL answers in Ukrainian here; MariaDB in Russian.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess, Popen
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import Cli
from tests.failures.conftest import SECRET, Shop, administer, assert_one_line, needs_servers
from tests.servers import Server, postgresql, start_postgres

pytestmark = needs_servers


class UkrainianServer(Server):
    def popen(self, *command: str | Path) -> "Popen[bytes]":
        return super().popen("env", "LANGUAGE=uk", *command)


@dataclass
class Warehouse:
    """A warehouse on a server that answers in Ukrainian. Its owner is the role `plain`; two sessions are all that it may have."""

    server: Server
    root: str  # the administrator's address
    url: str

    def sql(self, *statements: str) -> None:
        with closing(postgresql(self.root)) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="module")
def ukrainian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = Path(tempfile.mkdtemp(prefix="techmarket-ukrainian-"))
    folder.chmod(0o711)
    server = UkrainianServer(folder / "postgres")
    try:
        root = start_postgres(server)
        where = urlsplit(root).netloc.split("@")[1]
        found = Warehouse(server, root, f"postgres://plain:{SECRET}@{where}/shop")
        found.sql(f"CREATE ROLE plain LOGIN PASSWORD '{SECRET}'", "CREATE DATABASE shop OWNER plain")
        yield found
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def kpis(ukrainian: Warehouse, run_cli: Cli) -> Callable[[str], "CompletedProcess[str]"]:
    """Return a function that runs a command which asks the warehouse alone."""
    result = run_cli("migrate_all", "-v", "0", env={"DWH_URL": ukrainian.url})
    assert result.returncode == 0, result.stderr
    return lambda url: run_cli("kpis", env={"DWH_URL": url})


@dataclass(frozen=True)
class Fault:
    """`breaks` and `mends` are statements of the administrator; `address` is what DWH_URL is while it is wrong, if it is what is wrong."""

    text: str
    code: int = 4
    breaks: tuple[str, ...] = ()
    mends: tuple[str, ...] = ()
    address: tuple[str, str] = ("", "")
    missing: tuple[str, ...] = field(default=("does not answer", "its password"))


FAULTS = {
    "wrong password": Fault(
        "refuses user 'plain' or its password. Correct DWH_URL.", address=(f":{SECRET}@", ":other@"), missing=("does not answer",)
    ),
    "unknown role": Fault(
        "refuses user 'nobody' or its password. Correct DWH_URL.", address=("//plain:", "//nobody:"), missing=("does not answer",)
    ),
    "no password": Fault("wants a password for user 'plain', and DWH_URL has none. Add it.", address=(f":{SECRET}@", "@")),
    "missing database": Fault("has no database 'nowhere'. Create it, or correct DWH_URL.", address=("/shop", "/nowhere")),
    "limit of the role": Fault(
        "or raise the limit there (max_connections, or that of the user or the database).",
        1,
        ("ALTER ROLE plain CONNECTION LIMIT 0",),
        ("ALTER ROLE plain CONNECTION LIMIT -1",),
    ),
    "limit of the database": Fault(
        "has no free connection: ", 1, ("ALTER DATABASE shop CONNECTION LIMIT 0",), ("ALTER DATABASE shop CONNECTION LIMIT -1",)
    ),
    "no login": Fault(
        "Allow it there (LOGIN, `pg_hba.conf`), or correct DWH_URL.", 4, ("ALTER ROLE plain NOLOGIN",), ("ALTER ROLE plain LOGIN",)
    ),
    "no right to connect": Fault(
        "Grant it CONNECT there, or correct DWH_URL.",
        4,
        ("REVOKE CONNECT ON DATABASE shop FROM PUBLIC, plain",),
        ("GRANT CONNECT ON DATABASE shop TO plain",),
    ),
    "closed database": Fault(
        "takes no connections to database 'shop'. Allow them (ALTER DATABASE), or correct DWH_URL.",
        4,
        ("ALTER DATABASE shop ALLOW_CONNECTIONS false",),
        ("ALTER DATABASE shop ALLOW_CONNECTIONS true",),
    ),
    "no TLS there": Fault("Correct the server or DWH_URL.", address=("/shop", "/shop?sslmode=require")),
}


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])
def test_step_of_a_refused_login_helps(ukrainian: Warehouse, kpis: Callable[[str], "CompletedProcess[str]"], fault: Fault) -> None:
    ukrainian.sql(*fault.breaks)
    result = kpis(ukrainian.url.replace(*fault.address) if fault.address[0] else ukrainian.url)
    ukrainian.sql(*fault.mends)
    assert_one_line(result, fault.code, "dwh (127.0.0.1:", fault.text)
    assert not [words for words in fault.missing if words in result.stderr]
    assert kpis(ukrainian.url).returncode == 0


def test_full_and_stopping_and_stopped_server(ukrainian: Warehouse, kpis: Callable[[str], "CompletedProcess[str]"]) -> None:
    with closing(postgresql(ukrainian.root)) as connection:
        limit, reserved = (
            int(str(connection.execute(f"SHOW {name}").fetchone()[0]))  # type: ignore[index]
            for name in ("max_connections", "superuser_reserved_connections")
        )
    with ExitStack() as stack:
        for _ in range(limit - reserved):
            stack.enter_context(closing(psycopg.connect(ukrainian.url)))
        assert_one_line(kpis(ukrainian.url), 1, "has no free connection: ", "Run it again later")
    assert kpis(ukrainian.url).returncode == 0
    with closing(psycopg.connect(ukrainian.url)):
        assert ukrainian.server.process
        os.kill(ukrainian.server.process.pid, signal.SIGTERM)  # waits for the session
        assert_one_line(kpis(ukrainian.url), 1, "is stopping or starting; nothing was published. Run it again.")
    ukrainian.server.process.wait(30)
    assert_one_line(kpis(ukrainian.url), 4, "does not answer. Start it, or correct DWH_URL.")


# --- MySQL and MariaDB ---


@pytest.fixture
def account(shop: Shop) -> Iterator[str]:
    """Create an account that may read the orders, and answer it in Russian. Yield it as SQL names it."""
    name = f"reader_{os.getpid()}"
    account = f"{name}@'127.0.0.1'"
    administer("orders_db", f"CREATE USER {account} IDENTIFIED BY '{SECRET}'")
    administer("orders_db", f"GRANT SELECT ON {shop.name('orders_db')}.* TO {account}")
    administer("orders_db", "SET GLOBAL lc_messages = 'ru_RU'")
    yield account
    administer("orders_db", "SET GLOBAL lc_messages = 'en_US'")
    administer("orders_db", f"DROP USER {account}")


def reads_sources(shop: Shop, account: str, change: tuple[str, str] = ("", "")) -> "CompletedProcess[str]":
    where = shop.urls["orders_db"].split("@", 1)[1]
    url = f"mysql://{account.split('@')[0]}:{SECRET}@{where}"
    return shop.run("wait", "--sources", "--seconds", "0", env={"ORDERS_DB_URL": url.replace(*change) if change[0] else url})


# What breaks it, what mends it, what is wrong in ORDERS_DB_URL meanwhile, the exit code and the text.
ACCOUNT_FAULTS: dict[str, tuple[str, str, tuple[str, str], int, str]] = {
    "wrong password": ("", "", (f":{SECRET}@", ":other@"), 4, "or its password. Correct ORDERS_DB_URL"),
    "no password": ("", "", (f":{SECRET}@", "@"), 4, "and ORDERS_DB_URL has none. Add it."),
    "missing database, and no right to know that": ("", "", ("/shop_", "/gone_"), 4, "Grant it SELECT there, or correct ORDERS_DB_URL."),
    "no right": (
        "REVOKE SELECT ON {database}.* FROM {account}",
        "GRANT SELECT ON {database}.* TO {account}",
        ("", ""),
        4,
        "Grant it SELECT there, or correct ORDERS_DB_URL.",
    ),
    "locked": (
        "ALTER USER {account} ACCOUNT LOCK",
        "ALTER USER {account} ACCOUNT UNLOCK",
        ("", ""),
        4,
        "is locked. Unlock it there (ALTER USER)",
    ),
    "expired": (
        "ALTER USER {account} PASSWORD EXPIRE",
        f"ALTER USER {{account}} IDENTIFIED BY '{SECRET}'",
        ("", ""),
        4,
        "has expired. Set another one there (ALTER USER), and write it into ORDERS_DB_URL.",
    ),
    "TLS required": (
        "ALTER USER {account} REQUIRE SSL",
        "ALTER USER {account} REQUIRE NONE",
        ("", ""),
        4,
        "must connect with TLS, ask for it there.",
    ),
    "used up": (
        "ALTER USER {account} WITH MAX_QUERIES_PER_HOUR 1",
        "ALTER USER {account} WITH MAX_QUERIES_PER_HOUR 0",
        ("", ""),
        1,
        "has reached a limit of its account: ",
    ),
}


@pytest.mark.parametrize("name", ACCOUNT_FAULTS)
def test_step_of_a_refused_account_helps(shop: Shop, account: str, name: str) -> None:
    breaks, mends, change, code, text = ACCOUNT_FAULTS[name]
    words = {"account": account, "database": shop.name("orders_db")}
    if breaks:
        administer("orders_db", breaks.format(**words))
    result = reads_sources(shop, account, change)
    assert_one_line(result, code, "orders_db (127.0.0.1:", text)
    assert "does not answer" not in result.stderr
    if mends:
        administer("orders_db", mends.format(**words))
    assert reads_sources(shop, account).returncode == 0
