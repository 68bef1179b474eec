"""Causes that concern a whole server, and so need one of their own: a full, a stopped, a read-only one; and a shop on such servers."""

import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import MySQLdb
from django.conf import settings

from tests.failures.advice.steps import Command, Scene, run_statement
from tests.failures.conftest import FILES, SECRET, Rows, Shop
from tests.failures.test_tls import make_certificates, mysql_options
from tests.servers import Server, mysql, postgresql, start_mysql, start_postgres, with_database

KPIS, SOURCES = ("kpis",), ("wait", "--sources", "--seconds", "0")


class OwnServer(Server):
    """A server that is stopped and started again, with options after those of every test server."""

    options: tuple[str, ...] = ()

    def start(self, *command: str | Path, answers: Callable[[], object]) -> None:
        self.again = (command, answers)
        super().start(*command, *self.options, answers=answers)

    def restart(self) -> None:
        command, answers = self.again
        self.start(*command, answers=answers)

    def end(self, how: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(how)
        self.process.wait(60)


class OwnShop(Shop):
    """A loaded shop on two servers of its own."""

    def __init__(self, folder: Path, sources: OwnServer, warehouse: OwnServer, roots: dict[str, str]):
        self.sources, self.warehouse_server, self.roots, self.certificates = sources, warehouse, roots, folder
        super().__init__(folder, {alias: with_database(self.root(alias), FILES[alias]) for alias in FILES})

    def root(self, alias: str) -> str:
        return self.roots["mysql" if alias in settings.SOURCES else "postgres"]

    def connect(self, alias: str) -> Any:
        if alias not in settings.SOURCES:
            return postgresql(with_database(self.root(alias), FILES[alias]))
        connection = mysql(self.root(alias))
        connection.select_db(FILES[alias])
        return connection

    def administer(self, alias: str, *statements: str) -> Rows:
        with closing(mysql(self.root(alias)) if alias in settings.SOURCES else postgresql(self.root(alias))) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def own_shop() -> Iterator[OwnShop]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="techmarket-own-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        make_certificates(folder)
        sources, warehouse = OwnServer(folder / "mysql"), OwnServer(folder / "postgres")
        if sources.nobody:
            shutil.chown(folder / "server.key", "nobody")
        # Any address of this machine, and a host cache: loopback and --skip-name-resolve have none.
        sources.options = (*mysql_options(folder, "server"), "--bind-address=0.0.0.0", "--disable-skip-name-resolve")
        files = {"ssl": "on", "ssl_cert_file": folder / "server.pem", "ssl_key_file": folder / "server.key"}
        warehouse.options = tuple(flag for name, value in files.items() for flag in ("-c", f"{name}={value}"))
        for each in (sources, warehouse):
            stack.callback(each.stop)
        shop = OwnShop(folder, sources, warehouse, {"mysql": start_mysql(sources), "postgres": start_postgres(warehouse)})
        for alias, name in FILES.items():
            shop.administer(alias, f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if alias in settings.SOURCES else ""))
        for command in (("migrate_all", "-v", "0"), ("generate_data", "--quiet"), ("run_etl", "--quiet")):
            result = shop.run(*command)
            assert result.returncode == 0, result.stderr
        yield shop


def everywhere(shop: OwnShop, change: Callable[[str], str]) -> dict[str, str]:
    """Return the variables of all sources, changed."""
    return {settings.VARIABLES[alias]: change(shop.urls[alias]) for alias in settings.SOURCES}


@contextmanager
def shopkeeper(shop: OwnShop) -> Iterator[dict[str, str]]:
    """Create an account that may write to the sources and has no administrative right; yield the variables with it."""
    name = "shopkeeper@'127.0.0.1'"
    shop.administer("auth_db", f"CREATE USER {name} IDENTIFIED BY '{SECRET}'")
    try:
        for alias in settings.SOURCES:
            shop.administer(alias, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {FILES[alias]}.* TO {name}")
        yield everywhere(shop, lambda url: f"mysql://shopkeeper:{SECRET}@{url.split('@', 1)[1]}")
    finally:
        shop.administer("auth_db", f"DROP USER {name}")


# --- Sources ---


def tls_demanded(shop: OwnShop) -> Scene:
    """MySQL has a code for it, 3159; MariaDB says 1045, as for a wrong password."""
    shop.administer("auth_db", "SET GLOBAL require_secure_transport = ON")
    try:
        yield Command(SOURCES)
        yield Command(SOURCES, everywhere(shop, lambda url: f"{url}?sslmode=require"))
    finally:
        with closing(mysql_over_tls(shop)) as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL require_secure_transport = OFF")


def mysql_over_tls(shop: OwnShop) -> Any:
    address = urlsplit(shop.roots["mysql"])
    return MySQLdb.connect(
        host=address.hostname, port=address.port, user=address.username, password=address.password, ssl={"ca": str(shop.folder / "ca.pem")}
    )


def wrong_authority(shop: OwnShop) -> Scene:
    options = "sslmode=verify-full&sslrootcert={}"
    yield Command(SOURCES, everywhere(shop, lambda url: f"{url}?{options.format(shop.folder / 'other.pem')}"))
    yield Command(SOURCES, everywhere(shop, lambda url: f"{url}?{options.format(shop.folder / 'ca.pem')}"))


def address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def host_refused(shop: OwnShop) -> Scene:
    here = address_of_this_machine()
    env = everywhere(shop, lambda url: url.replace("127.0.0.1", here))
    yield Command(SOURCES, env)
    password = shop.roots["mysql"].split(":")[2].split("@")[0]
    shop.administer("auth_db", f"CREATE USER test@'{here}' IDENTIFIED BY '{password}'", f"GRANT SELECT ON *.* TO test@'{here}'")
    yield Command(SOURCES, env)
    shop.administer("auth_db", f"DROP USER test@'{here}'")


def host_blocked(shop: OwnShop) -> Scene:
    here = address_of_this_machine()
    password = shop.roots["mysql"].split(":")[2].split("@")[0]
    shop.administer("auth_db", f"CREATE USER test@'{here}' IDENTIFIED BY '{password}'", f"GRANT SELECT ON *.* TO test@'{here}'")
    shop.administer("auth_db", "SET GLOBAL max_connect_errors = 1")
    for _ in range(3):
        with socket.create_connection((here, shop.sources.port)) as broken:
            broken.recv(10)
            broken.sendall(b"no handshake")
            time.sleep(0.1)
    env = everywhere(shop, lambda url: url.replace("127.0.0.1", here))
    advice = yield Command(SOURCES, env)
    run_statement(shop, "auth_db", advice, 1)
    yield Command(SOURCES, env)
    shop.administer("auth_db", f"DROP USER test@'{here}'")


def read_only_server(shop: OwnShop) -> Scene:
    with shopkeeper(shop) as env:
        shop.administer("auth_db", "SET GLOBAL read_only = ON")
        yield Command(("generate_data", "--changes", "5", "--quiet"), env)
        shop.administer("auth_db", "SET GLOBAL read_only = OFF")
        yield Command(("generate_data", "--changes", "5", "--quiet"), env)


def small_packets(shop: OwnShop) -> Scene:
    [(before,)] = shop.administer("auth_db", "SELECT @@global.max_allowed_packet")
    shop.administer("auth_db", "SET GLOBAL max_allowed_packet = 65536")
    advice = yield Command()
    run_statement(shop, "auth_db", advice)
    yield Command()
    shop.administer("auth_db", f"SET GLOBAL max_allowed_packet = {before}")


def no_free_connection(shop: OwnShop) -> Scene:
    [(before,)] = shop.administer("auth_db", "SELECT @@global.max_connections")
    with shopkeeper(shop) as env:
        shop.administer("auth_db", "SET GLOBAL max_connections = 10")
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(closing(mysql(env["ORDERS_DB_URL"])))
            yield Command(SOURCES, env)
        yield Command(SOURCES, env)
        shop.administer("auth_db", f"SET GLOBAL max_connections = {before}")


def other_login_method(shop: OwnShop) -> Scene:
    """An account of a method that the server has no longer."""
    own = shop.sources.options
    with shopkeeper(shop) as env:
        shop.administer("auth_db", "ALTER USER shopkeeper@'127.0.0.1' IDENTIFIED VIA unix_socket")
        try:
            shop.sources.end(signal.SIGTERM)
            shop.sources.options = (*own, "--unix-socket=OFF")
            shop.sources.restart()
            yield Command(SOURCES, env)
            shop.administer("auth_db", f"ALTER USER shopkeeper@'127.0.0.1' IDENTIFIED BY '{SECRET}'")
            yield Command(SOURCES, env)
        finally:
            shop.sources.options = own
            shop.sources.end(signal.SIGTERM)
            shop.sources.restart()


def lost_table_file(shop: OwnShop) -> Scene:
    file = shop.sources.folder / "data" / FILES["orders_db"] / "regions.ibd"
    shop.sources.end(signal.SIGTERM)
    moved = file.rename(shop.sources.folder / "regions.ibd")
    shop.sources.restart()
    try:
        yield Command()
    finally:
        shop.sources.end(signal.SIGTERM)
        moved.rename(file)
        shop.sources.restart()
    yield Command()


# --- The warehouse ---


def stopped_server(shop: OwnShop) -> Scene:
    shop.warehouse_server.end(signal.SIGINT)
    yield Command(KPIS)
    shop.warehouse_server.restart()
    yield Command(KPIS)


def stopping_server(shop: OwnShop) -> Scene:
    """It waits for a session, and takes no new one."""
    assert shop.warehouse_server.process
    with closing(shop.connect("dwh")):
        shop.warehouse_server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        yield Command(KPIS)
    shop.warehouse_server.process.wait(60)
    shop.warehouse_server.restart()
    yield Command(KPIS)


def file_of_a_table(shop: OwnShop, table: str) -> Path:
    [(path,)] = shop.sql("dwh", f"SELECT pg_relation_filepath('{table}')")
    return shop.warehouse_server.folder / "data" / str(path)


def unreadable_file(shop: OwnShop) -> Scene:
    shop.administer("dwh", "CHECKPOINT")
    file = file_of_a_table(shop, "dim_region")
    moved = file.rename(file.with_name("moved"))
    yield Command()
    if file.exists():
        file.unlink()
    moved.rename(file)
    yield Command()


def damaged_page(shop: OwnShop) -> Scene:
    file = file_of_a_table(shop, "dim_region")
    shop.warehouse_server.end(signal.SIGINT)
    content = file.read_bytes()
    file.write_bytes(b"\xff" * 8192 + content[8192:])
    shop.warehouse_server.restart()
    yield Command(("run_etl", "--quiet", "--mode", "full"))  # an incremental run that finds nothing reads no dimension
    shop.warehouse_server.end(signal.SIGINT)
    file.write_bytes(content)
    shop.warehouse_server.restart()
    yield Command()


def no_memory(shop: OwnShop) -> Scene:
    """Another session has taken the whole table of locks."""
    with closing(shop.connect("dwh")) as other:
        try:
            other.execute("SELECT pg_advisory_lock(g) FROM generate_series(1, 10000000) AS g")
        except Exception as error:
            assert "shared memory" in str(error)
        yield Command()
    yield Command()
