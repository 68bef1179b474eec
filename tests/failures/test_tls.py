"""TLS on real servers: these accept only encrypted connections with a client certificate, and the suite's own have no TLS at all."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import MySQLdb
import psycopg
import pytest
import redis
from django.conf import settings
from kombu import Connection

from tests.conftest import PASSED_ON, ROOT, require_program
from tests.failures.conftest import FILES, Shop, assert_one_line, create_databases, needs_servers
from tests.servers import MYSQL, POSTGRES, Server, mysql, need, postgresql, redis_server, start_mysql, start_postgres, with_database

pytestmark = [needs_servers, pytest.mark.process, pytest.mark.servers]
SERVER_NAMES = {"server": "IP:127.0.0.1", "misnamed": "DNS:elsewhere.example", "client": "DNS:techmarket"}
MODES = ("require", "verify-ca", "verify-full")


class TlsServer(Server):
    """A server that is started with more options."""

    options: tuple[str, ...] = ()

    def start(self, *command: str | Path, answers: Any) -> None:
        super().start(*command, *self.options, answers=answers)


@dataclass
class Secure:
    """The folder of the certificates, and the addresses of the servers without options."""

    folder: Path
    mysql: str
    misnamed_mysql: str
    postgres: str
    redis: str

    def options(self, mode: str = "verify-full", authority: str = "ca", certificate: bool = True) -> str:
        parts = [f"sslmode={mode}"] + [f"sslrootcert={quote(str(self.folder / f'{authority}.pem'))}"] * bool(authority)
        pair = f"sslcert={quote(str(self.folder / 'client.pem'))}&sslkey={quote(str(self.folder / 'client.key'))}"
        return "&".join(parts + [pair] * certificate)

    def env(self, options: str, prefix: str = "") -> dict[str, str]:
        databases = {variable: f"{with_database(self.mysql, prefix + name)}?{options}" for variable, name in MYSQL.items()}
        databases |= {variable: f"{with_database(self.postgres, prefix + name)}?{options}" for variable, name in POSTGRES.items()}
        return databases | {"CELERY_BROKER_URL": f"{self.redis}?{options}"}


def make_certificates(folder: Path) -> None:
    """Make an authority with the certificates of the servers and of a client, and an authority that nobody has asked."""
    openssl = str(require_program("openssl", "openssl"))

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # which Python requires from 3.13 on
        run("req", "-x509", *new_key, *usage, "-days", "30", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name, alternative in SERVER_NAMES.items():
        (folder / "names").write_text(f"subjectAltName={alternative}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        run("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name if name != 'client' else 'test'}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "names")
        run("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    for key in folder.glob("*.key"):
        key.chmod(0o600)


def mysql_options(folder: Path, name: str) -> tuple[str, ...]:
    return (f"--ssl-ca={folder / 'ca.pem'}", f"--ssl-cert={folder / f'{name}.pem'}", f"--ssl-key={folder / f'{name}.key'}")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    top = tmp_path_factory.mktemp("tls")
    folder = Path("/tmp") / f"techmarket-tls-{os.getpid()}"  # which the servers' user can reach
    folder.mkdir(0o755)
    make_certificates(folder)
    started: list[TlsServer] = []

    def server(kind: str, *options: str) -> TlsServer:
        parent = folder / f"servers-{len(started)}"
        parent.mkdir(0o711)
        started.append(TlsServer(parent / kind))
        started[-1].options = options
        if started[-1].nobody:
            for name in ("server", "misnamed"):
                shutil.chown(folder / f"{name}.key", "nobody")
        return started[-1]

    try:
        mysql_url = start_mysql(server("mysql", *mysql_options(folder, "server")))
        misnamed = start_mysql(server("mysql", *mysql_options(folder, "misnamed")))
        files = {"ssl_ca_file": "ca.pem", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key"}
        flags = [flag for name, file in files.items() for flag in ("-c", f"{name}={folder / file}")]
        postgres = server("postgres", "-c", "ssl=on", *flags)
        postgres_url = start_postgres(postgres)
        require_certificates(mysql_url, postgres_url, postgres.folder / "data")
        yield Secure(top, mysql_url, misnamed, postgres_url, start_redis(server("redis"), folder, top))
    finally:
        for each in started:
            each.stop()
        shutil.rmtree(folder, ignore_errors=True)


def require_certificates(mysql_url: str, postgres_url: str, data: Path) -> None:
    """Create the databases, then let the servers refuse everybody without encryption and a client certificate."""
    create_databases(mysql_url, postgres_url)
    with mysql(mysql_url) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER USER test@'127.0.0.1' REQUIRE X509")
    with postgresql(postgres_url) as connection:
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n")
        connection.execute("SELECT pg_reload_conf()")


def start_redis(server: TlsServer, folder: Path, top: Path) -> str:
    """Start Redis with TLS and a client certificate only, and copy what a client needs to `top`."""
    for name in ("ca.pem", "other.pem", "client.pem", "client.key"):
        shutil.copy(folder / name, top / name)
    (top / "client.key").chmod(0o600)
    daemon = need(redis_server, "Redis", "TEST_REDIS_URL", "redis-server")
    tls = ("--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-cert-file", str(folder / "server.pem"))
    tls += ("--tls-key-file", str(folder / "server.key"), "--tls-auth-clients", "yes")
    files = {"ssl_ca_certs": str(top / "ca.pem"), "ssl_certfile": str(top / "client.pem"), "ssl_keyfile": str(top / "client.key")}

    def answers() -> None:
        with redis.Redis("127.0.0.1", server.port, ssl=True, **files) as client:
            client.ping()

    options = ("--bind", "127.0.0.1", "--port", "0", "--tls-port", str(server.port), "--dir", server.folder, "--save", "")
    server.start(daemon, *options, *tls, answers=answers)
    return f"rediss://127.0.0.1:{server.port}/0"


@pytest.fixture
def secure_shop(secure: Secure, tmp_path: Path) -> Shop:
    """A shop whose every connection is checked in full."""
    shop = Shop(tmp_path, {})
    shop.env |= secure.env(secure.options())
    return shop


def ping(shop: Shop, env: dict[str, str], *options: str) -> dict[str, dict[str, Any]]:
    document = json.loads(shop.run("ping", "--json", *options, env=env).stdout)
    return {part["name"]: part for part in document["parts"]}


# --- Everything over TLS ---


def test_everything_works_where_only_tls_with_a_certificate_is_accepted(secure: Secure, secure_shop: Shop) -> None:
    """Migrations, a run in slices, backup, verification and restore: each session and client program that was not encrypted would fail."""
    shop = secure_shop
    for command in (
        ("migrate_all", "-v", "0"),
        ("generate_data", "--quiet"),
        ("run_etl", "--quiet"),
        ("backup", "--verify", "-v", "0"),
        ("reconcile",),
    ):
        result = shop.run(*command, env={"ETL_BATCH_ORDERS": "200"})
        assert result.returncode == 0, (command, result.stdout, result.stderr)
    name = next(path.name for path in (shop.folder / "backups").iterdir() if path.name != ".lock")
    for command in (("restore", name), ("reconcile",), ("run_etl", "--quiet")):
        result = shop.run(*command, env=secure.env(secure.options(), "restored_"))
        assert result.returncode == 0, (command, result.stdout, result.stderr)
    parts = ping(shop, {}, "--databases")
    assert {(part["encryption"], part["trouble"]) for part in parts.values()} == {("TLSv1.3", "")}
    assert len(parts) == len(FILES)
    table = shop.run("ping", "--databases", env={"COLUMNS": "200"}).stdout
    assert "TLS" in table and table.count("1.3") >= len(FILES)


@pytest.mark.parametrize("spelling", ["ours", "redis-py"])
def test_broker_worker_and_beat_over_tls(spelling: str, secure: Secure, secure_shop: Shop) -> None:
    """A worker takes the run's tasks from a Redis that accepts nothing else; the health check of its container reaches it too."""
    shop = secure_shop
    if spelling == "redis-py":  # which Flower needs, since it reads the address itself
        files = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
        options = "&".join(f"{name}={quote(str(secure.folder / file))}" for name, file in files.items())
        shop.env["CELERY_BROKER_URL"] = f"{secure.redis}?ssl_cert_reqs=CERT_REQUIRED&{options}"
        assert Connection(shop.env["CELERY_BROKER_URL"]).ensure_connection(max_retries=1).connected
    shop.run("migrate_all", "-v", "0")
    shop.run("generate_data", "--quiet")
    celery = ("-m", "celery", "-A", "techmarket")
    silent = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    worker = shop.start_python(*celery, "worker", "--concurrency", "1", **silent)
    beat = shop.start_python(*celery, "beat", "--pidfile=", **silent)
    try:
        result = shop.run("run_etl", "--queue", "--quiet")
        assert result.returncode == 0, result.stderr
        parts = ping(shop, {})
        assert (parts["broker"]["encryption"], parts["broker"]["trouble"]) == ("TLSv1.3", "")
        assert parts["workers"]["trouble"] == ""
        shop.wait_until(lambda: ping(shop, {})["beat"]["trouble"] == "", beat)
    finally:
        for process in (worker, beat):
            process.terminate()
            process.wait(60)
    (shop.folder / "role").write_text("worker")
    (shop.folder / "alive" / "worker").touch()
    os.utime(shop.folder / "alive" / "worker", (time.time() - 500,) * 2)
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    command = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
    result = subprocess.run(command, env=passed_on | shop.env, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"worker has sent no sign of life for 5\d\d s\n", result.stdout), result.stdout + result.stderr


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_connect(secure: Secure, secure_shop: Shop, mode: str) -> None:
    parts = ping(secure_shop, secure.env(secure.options(mode)))
    assert {part["encryption"] for part in parts.values() if part["name"] not in ("workers", "beat", "reap", "schedules", "forget")} == {
        "TLSv1.3"
    }


# --- What is not what was asked for ---


def test_wrong_authority(secure: Secure, secure_shop: Shop) -> None:
    for mode in MODES:
        parts = ping(secure_shop, secure.env(secure.options(mode, "other")))
        for alias in (*FILES, "broker"):
            assert "no encrypted connection: " in parts[alias]["trouble"], parts[alias]
            assert "certificate" in parts[alias]["trouble"] and parts[alias]["trouble"].endswith(".")


def test_wrong_host_name(secure: Secure, secure_shop: Shop) -> None:
    """The certificate is of the right authority, for another server. Only verify-full looks at the name."""

    def ask(mode: str, kind: str) -> str:
        options = secure.options(mode, certificate=False)
        env = {"ORDERS_DB_URL": f"{with_database(secure.misnamed_mysql, 'orders_db')}?{options}"}
        return str(ping(secure_shop, env, "--databases")["orders_db"]["trouble"])

    assert "no encrypted connection: " in ask("verify-full", "mysql")
    for mode in ("require", "verify-ca"):
        assert "Unknown database" in ask(mode, "mysql") or "no database" in ask(mode, "mysql"), ask(mode, "mysql")


def test_missing_client_certificate(secure: Secure, secure_shop: Shop) -> None:
    parts = ping(secure_shop, secure.env(secure.options(certificate=False)))
    for alias in (*FILES, "broker"):
        assert parts[alias]["trouble"], parts[alias]
    assert "refuses user 'test'" in parts["orders_db"]["trouble"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alias", ["orders_db", "dwh"])
def test_server_without_tls(shop: Shop, secure: Secure, alias: str, mode: str) -> None:
    """MariaDB's library connects in plain text here when it is asked for REQUIRED: each connection is looked at."""
    skip_where_tls_is_offered(alias)
    options = secure.options(mode, "" if mode == "require" else "ca", certificate=False)
    env = {settings.VARIABLES[alias]: f"{shop.urls[alias]}?{options}"}
    trouble = ping(shop, env, "--databases")[alias]["trouble"]
    assert "no encrypted connection: " in trouble and f"or {settings.VARIABLES[alias]}." in trouble, trouble
    assert_one_line(shop.run("run_etl", env=env), 4, "no encrypted connection: ", settings.VARIABLES[alias])
    assert_one_line(shop.run("backup", env=env), 4, "no encrypted connection: ", settings.VARIABLES[alias])


def test_modes_that_allow_plain_text(shop: Shop) -> None:
    """Prefer connects without TLS, and ping shows what became of it."""
    skip_where_tls_is_offered("orders_db")
    for mode in ("disable", "prefer"):
        env = {settings.VARIABLES[alias]: f"{url}?sslmode={mode}" for alias, url in shop.urls.items()}
        parts = ping(shop, env, "--databases")
        assert {(part["encryption"], part["trouble"]) for part in parts.values()} == {("none", "")}
        assert shop.run("backup", "-v", "0", env=env).returncode == 0


def test_prefer_encrypts_where_the_server_can(secure: Secure, secure_shop: Shop) -> None:
    env = {"ORDERS_DB_URL": f"{with_database(secure.misnamed_mysql, 'mysql')}?sslmode=prefer"}
    assert ping(secure_shop, env, "--databases")["orders_db"]["encryption"] == "TLSv1.3"
    env = {"ORDERS_DB_URL": f"{with_database(secure.misnamed_mysql, 'mysql')}?sslmode=disable"}
    assert ping(secure_shop, env, "--databases")["orders_db"]["encryption"] == "none"


@pytest.mark.skipif("TEST_REDIS_URL" not in os.environ, reason="needs Redis: `make test` runs it a second time, with servers")
def test_redis_without_tls(secure: Secure, secure_shop: Shop) -> None:
    url = os.environ["TEST_REDIS_URL"].replace("redis://", "rediss://")
    trouble = ping(secure_shop, {"CELERY_BROKER_URL": f"{url}?sslmode=require"})["broker"]["trouble"]
    assert "no encrypted connection: " in trouble and "Correct the server" in trouble, trouble


def skip_where_tls_is_offered(alias: str) -> None:
    if alias != "dwh":
        with MySQLdb.connect(**mysql_parameters()) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW VARIABLES LIKE 'have_ssl'")
            row = cursor.fetchone()
        if not row or row[1] == "YES":
            pytest.skip("the server given by TEST_MYSQL_URL offers TLS")
    else:
        with psycopg.connect(os.environ["TEST_POSTGRES_URL"], dbname="postgres") as connection:
            if connection.execute("SHOW ssl").fetchone() == ("on",):
                pytest.skip("the server given by TEST_POSTGRES_URL offers TLS")


def mysql_parameters() -> dict[str, Any]:
    from urllib.parse import unquote, urlsplit

    address = urlsplit(os.environ["TEST_MYSQL_URL"])
    return {
        "host": address.hostname,
        "port": address.port or 3306,
        "user": unquote(address.username or ""),
        "password": unquote(address.password or ""),
    }
