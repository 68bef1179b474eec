"""Unix sockets: servers that accept nothing else, in a folder whose name has letters that an address gives a meaning."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from tests.failures.conftest import Shop, assert_one_line, create_databases, needs_servers
from tests.servers import MYSQL, POSTGRES, Server, mysql, postgresql, start_mysql, start_postgres

pytestmark = [needs_servers, pytest.mark.process, pytest.mark.servers]
FOLDER = "а #?%20&+="


class SocketServer(Server):
    """A server with its socket in a folder of that name. `options` may name it as {folder}."""

    options: tuple[str, ...] = ()

    @property
    def socket_folder(self) -> Path:
        return self.folder / FOLDER

    def start(self, *command: str | Path, answers: Any) -> None:
        self.socket_folder.mkdir(exist_ok=True)
        if self.nobody:
            os.chown(self.socket_folder, self.nobody.pw_uid, self.nobody.pw_gid)
        super().start(*command, *(option.format(folder=self.socket_folder) for option in self.options), answers=answers)


@dataclass
class Sockets:
    """The sockets of both servers, and their administrator's password."""

    mysql: Path
    mysql_password: str
    postgres: Path
    postgres_port: int
    postgres_password: str

    def env(self, prefix: str = "") -> dict[str, str]:
        """Return the addresses of databases whose names begin with `prefix`."""
        sources = {
            variable: f"mysql://test:{self.mysql_password}@/{prefix}{name}?socket={quote(str(self.mysql))}"
            for variable, name in MYSQL.items()
        }
        user, port, folder = f"test:{self.postgres_password}", self.postgres_port, quote(str(self.postgres))
        return sources | {variable: f"postgres://{user}@:{port}/{prefix}{name}?socket={folder}" for variable, name in POSTGRES.items()}


@pytest.fixture(scope="module")
def sockets() -> Iterator[Sockets]:
    """Start both servers and create the databases; then accept logins over their sockets only."""
    folder = Path("/tmp") / f"techmarket-sock-{os.getpid()}"  # a socket's path has 107 bytes at most
    folder.mkdir(0o711)
    servers = SocketServer(folder / "mysql"), SocketServer(folder / "postgres")
    servers[0].options = ("--socket={folder}/s",)
    servers[1].options = ("-c", "unix_socket_directories={folder}")
    try:
        mysql_url, postgres_url = start_mysql(servers[0]), start_postgres(servers[1])
        create_databases(mysql_url, postgres_url)
        with mysql(mysql_url) as connection, connection.cursor() as cursor:
            cursor.execute("RENAME USER test@'127.0.0.1' TO test@localhost")
        with postgresql(postgres_url) as session:
            (servers[1].folder / "data" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
            session.execute("SELECT pg_reload_conf()")
        passwords = [unquote(urlsplit(url).password or "") for url in (mysql_url, postgres_url)]
        yield Sockets(servers[0].socket_folder / "s", passwords[0], servers[1].socket_folder, servers[1].port, passwords[1])
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def socket_shop(sockets: Sockets, tmp_path: Path) -> Shop:
    shop = Shop(tmp_path, {})
    shop.env |= sockets.env()
    return shop


def test_everything_works_over_sockets(sockets: Sockets, socket_shop: Shop) -> None:
    """Sessions and client programs alike: a restored shop is equal and goes on."""
    shop = socket_shop
    for command in (
        ("migrate_all", "-v", "0", "--wait", "10"),
        ("wait", "--seconds", "10"),
        ("generate_data", "--quiet"),
        ("run_etl", "--quiet"),
        ("reconcile",),
        ("backup", "--verify", "-v", "0"),
    ):
        result = shop.run(*command, env={"ETL_BATCH_ORDERS": "200"})
        assert result.returncode == 0, (command, result.stdout, result.stderr)
    assert shop.run("ping", "--databases").stdout.count("#?%20&+=") == len(MYSQL | POSTGRES)
    name = next(path.name for path in (shop.folder / "backups").iterdir() if path.name != ".lock")
    for command in (("restore", name), ("reconcile",), ("run_etl", "--mode", "full", "--quiet"), ("ping", "--databases")):
        result = shop.run(*command, env=sockets.env("restored_"))
        assert result.returncode == 0, (command, result.stdout, result.stderr)


def test_socket_without_a_server(sockets: Sockets, socket_shop: Shop) -> None:
    assert socket_shop.run("migrate_all", "-v", "0").returncode == 0
    missing = quote(str(sockets.mysql.parent / "none"))
    env = {"ORDERS_DB_URL": f"mysql://test:topsecret@/orders_db?socket={missing}"}
    assert_one_line(socket_shop.run("run_etl", env=env), 4, "orders_db (", "none) does not answer. Start it, or correct ORDERS_DB_URL")
    env = {"CONTROL_DB_URL": f"postgres://test:topsecret@:1/control?socket={quote(str(sockets.postgres))}"}
    result = socket_shop.run("run_etl", env=env)
    assert_one_line(result, 4, f"control database ({sockets.postgres}) does not answer. Start it, or correct CONTROL_DB_URL")
