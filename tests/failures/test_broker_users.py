"""The users of Redis, on a real one that is started as k8s/ starts it, over TLS: each may do what its processes do, and no more."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import yaml
from kombu import Connection

from techmarket.encryption import configure_redis
from tests.conftest import ROOT
from tests.failures.conftest import Shop, needs_servers
from tests.failures.test_ping import start_celery
from tests.failures.test_tls import make_certificates, ping
from tests.servers import Server, need, redis_server

pytestmark = [needs_servers, pytest.mark.process, pytest.mark.servers]
ROLES = ("web", "worker", "beat", "flower")
VARIABLES = {"admin": "REDIS_PASSWORD"} | {role: f"REDIS_{role.upper()}_PASSWORD" for role in ROLES}
PASSWORDS = {user: hashlib.sha256(user.encode()).hexdigest() for user in VARIABLES}
# One of each kind that would end or read more than a process of ours has to.
DANGEROUS = (
    "CONFIG GET *", "CONFIG SET dir /tmp", "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "EVAL x 0", "SCRIPT FLUSH",
    "SCRIPT KILL", "FUNCTION LIST", "ACL LIST", "ACL SETUSER x", "SHUTDOWN", "REPLICAOF 127.0.0.1 1", "MODULE LIST", "MONITOR",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal", "SAVE", "BGREWRITEAOF", "MIGRATE 127.0.0.1 1 celery 0 1", "RENAME celery x", "GET anything",
    "SET anything 1", "SWAPDB 0 1", "DUMP celery", "SORT celery", "LRANGE celery 0 -1", "OBJECT ENCODING celery",
)  # fmt: skip


@dataclass
class Broker:
    """A Redis with users. `address` has no user."""

    address: str
    authority: Path

    def url(self, user: str) -> str:
        address = f"rediss://{user}:{PASSWORDS[user]}@{self.address}/0"
        return f"{address}?sslmode=verify-full&sslrootcert={quote(str(self.authority))}"

    def connect(self, user: str, password: str = "") -> "redis.Redis":
        host, port = self.address.split(":")
        secret = password or PASSWORDS.get(user, "any")
        return redis.Redis(host, int(port), username=user, password=secret, ssl=True, ssl_ca_certs=str(self.authority))

    def denied(self) -> list[tuple[str, str, str]]:
        """Return what users were denied since the last look."""
        with self.connect("admin") as admin:
            found = [(str(each["username"]), str(each["reason"]), str(each["object"])) for each in admin.acl_log()]  # type: ignore[union-attr]
            admin.acl_log_reset()
        return found


def read_container(name: str) -> dict[str, Any]:
    objects = [each for each in yaml.safe_load_all((ROOT / name).read_text()) if each["kind"] == "StatefulSet"]
    return dict(objects[0]["spec"]["template"]["spec"]["containers"][0])


def read_tls_options() -> list[str]:
    component = yaml.safe_load((ROOT / "k8s/components/redis-tls/kustomization.yaml").read_text())
    return list(yaml.safe_load(component["patches"][0]["patch"])["spec"]["template"]["spec"]["containers"][0]["args"])


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    folder = Path("/tmp") / f"techmarket-users-{os.getpid()}"
    folder.mkdir(0o755)
    make_certificates(folder)
    server = Server(folder / "redis")
    try:
        yield start_as_container(server, folder)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def start_as_container(server: Server, folder: Path) -> Broker:
    """Run the command of k8s/redis with the options of k8s/components/redis-tls, in folders of this machine."""
    daemon = need(redis_server, "Redis", "TEST_REDIS_URL", "redis-server")
    for kind, name in (("crt", "server.pem"), ("key", "server.key")):
        shutil.copy(folder / name, server.folder / f"tls.{kind}")
    shutil.copy(folder / "ca.pem", server.folder / "ca.crt")
    shutil.copy(ROOT / "deploy/redis/users.sh", server.folder / "users.sh")
    for user, variable in VARIABLES.items():
        (server.folder / variable).write_text(f"{PASSWORDS[user]}\n")
    if server.nobody:
        for path in server.folder.iterdir():
            os.chown(path, server.nobody.pw_uid, server.nobody.pw_gid)
    here = {"/etc/redis/users.sh": "users.sh", "/tmp/users.acl": "users.acl", "--dir /data": f"--dir {server.folder}"}
    script = read_container("k8s/redis/redis.yaml")["command"][-2]
    for there, path in here.items():
        assert there in script
        script = script.replace(there, path)
    options = [each.replace("/etc/redis-tls", str(server.folder)).replace("6379", str(server.port)) for each in read_tls_options()]
    files = [f"{variable}_FILE={server.folder / variable}" for variable in VARIABLES.values()]
    broker = Broker(f"127.0.0.1:{server.port}", folder / "ca.pem")
    path = f"PATH={daemon.parent}:{os.environ['PATH']}"
    server.start("env", path, *files, "sh", "-c", script, "redis-server", *options, answers=lambda: broker.connect("health").ping())
    return broker


# --- What each user may do ---


def is_denied(client: "redis.Redis", *command: str) -> bool:
    try:
        client.execute_command(*command)
    except redis.exceptions.NoPermissionError:
        return True
    return False


@pytest.mark.parametrize("user", [*ROLES, "health"])
def test_only_admin_may_do_what_is_dangerous(user: str, broker: Broker) -> None:
    with broker.connect(user) as client:
        assert [command for command in DANGEROUS if not is_denied(client, *command.split())] == []


def test_nobody_enters_without_a_password(broker: Broker) -> None:
    host, port = broker.address.split(":")
    with redis.Redis(host, int(port), ssl=True, ssl_ca_certs=str(broker.authority)) as client:
        for command in ("PING", "INFO"):
            with pytest.raises(redis.AuthenticationError):
                client.execute_command(command)
    for user in ("default", "nobody", *ROLES):
        with broker.connect(user, "wrong") as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    with broker.connect("health") as client:
        assert client.ping() and is_denied(client, "INFO")


MESSAGES = [
    ("LPUSH", "celery", "m"), ("BRPOP", "celery", "1"), ("LINDEX", "celery", "0"), ("DEL", "celery"), ("LTRIM", "celery", "1", "0"),
    ("HGETALL", "unacked"), ("HGET", "unacked", "x"), ("HDEL", "unacked", "x"), ("LPUSH", "reap", "m"), ("DEL", "reap"),
    ("PUBLISH", "/0.celery.pidbox", "x"), ("PUBLISH", "anything", "x"), ("SADD", "_kombu.binding.celery.pidbox", "x"),
]  # fmt: skip
ALLOWED = {
    "web": {"LPUSH celery"},
    "beat": {"LPUSH celery", "LPUSH reap", "DEL reap"},
    "flower": {"PUBLISH /0.celery.pidbox", "SADD _kombu.binding.celery.pidbox"},
    "worker": {
        "LPUSH celery", "BRPOP celery", "DEL celery", "HGET unacked", "HDEL unacked", "LPUSH reap", "DEL reap",
        "PUBLISH /0.celery.pidbox", "SADD _kombu.binding.celery.pidbox",
    },
}  # fmt: skip


@pytest.mark.parametrize("user", ROLES)
def test_only_workers_read_messages(user: str, broker: Broker) -> None:
    """Web may add a message; it can neither read nor delete one, its own included, nor stop a worker."""
    with broker.connect("admin") as admin:
        admin.flushall()
    with broker.connect(user) as client:
        allowed = {f"{command[0]} {command[1]}" for command in MESSAGES if not is_denied(client, *command)}
    assert allowed == ALLOWED[user]


# --- The processes themselves ---


def test_a_run_with_each_process_as_its_user(broker: Broker, shop: Shop) -> None:
    """Web sends, beat sends and empties its queue, workers take, reply and end: with no right too few, as Redis' log of denials shows."""
    with broker.connect("admin") as admin:
        admin.flushall()
    broker.denied()
    worker = start_celery(shop, {"CELERY_BROKER_URL": broker.url("worker")}, "worker", "--concurrency=2")
    beat = start_celery(shop, {"CELERY_BROKER_URL": broker.url("beat"), "ETL_REAP_SECONDS": "1"}, "beat", "--pidfile=")
    try:
        result = shop.run("run_etl", "--queue", "--quiet", env={"CELERY_BROKER_URL": broker.url("web")})
        assert (result.returncode, result.stderr) == (0, "")
        assert shop.runs()[-1]["state"] == "succeeded"
        parts = ping(shop, {"CELERY_BROKER_URL": broker.url("worker")})
        assert (parts["broker"]["encryption"], parts["broker"]["trouble"], parts["workers"]["trouble"]) == ("TLSv1.3", "", "")
        reaped = "SELECT 1 FROM orchestration_duty WHERE name = 'reap' AND done_at IS NOT NULL"
        shop.wait_until(lambda: shop.sql("default", reaped), beat)  # type: ignore[arg-type]
    finally:
        codes = [end(process) for process in (worker, beat)]
    assert codes == [0, 0]
    assert broker.denied() == []


def test_worker_returns_what_another_has_left(broker: Broker) -> None:
    """As kombu does after the visibility timeout: with a lock, a transaction, and a look at who wants the message."""
    message = {"body": "", "headers": {}, "properties": {"delivery_info": {"exchange": "celery", "routing_key": "celery"}}}
    with broker.connect("admin") as admin:
        admin.flushall()
        broker.denied()
        admin.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
        admin.hset("unacked", "left", json.dumps([message, "celery", "celery"]))
        admin.zadd("unacked_index", {"left": 1})
        with Connection(configure_redis(broker.url("worker")), transport_options={"visibility_timeout": 1}) as connection:
            connection.default_channel.qos.restore_visible()
        assert (admin.llen("celery"), admin.hlen("unacked"), admin.zcard("unacked_index"), admin.exists("unacked_mutex")) == (1, 0, 0, 0)
    assert broker.denied() == []


def end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    return process.wait(60)


def test_ping_names_what_is_denied(broker: Broker, shop: Shop) -> None:
    where = f"broker ({broker.address})"

    def ask(url: str) -> str:
        result = shop.run("ping", "--json", env={"CELERY_BROKER_URL": url})
        assert result.returncode == 4 and not [secret for secret in PASSWORDS.values() if secret in result.stdout + result.stderr]
        return "\n".join(result.stderr.splitlines()[:2])

    denied = ask(broker.url("web"))
    assert f"{where} denies user 'web' a command or a key: " in denied and "'info'" in denied and "deploy/redis/users.sh" in denied
    assert f"\nworkers: {where} denies user 'web' a command or a key: " in denied
    assert ask(broker.url("web").replace(PASSWORDS["web"], "wrong")).startswith(
        f"{where} refuses user 'web' or its password. Correct CELERY_"
    )
    nobody = ask(broker.url("web").replace(f"web:{PASSWORDS['web']}@", ""))
    assert nobody.startswith(f"{where} takes nobody without a password. Add user and password to CELERY_BROKER_URL: redis://user:password@")


def test_old_and_new_password_hold_during_a_rotation(broker: Broker) -> None:
    """What users.sh prints for two words, as ACL LOAD takes it: the recipe in OPERATIONS."""
    env = {variable: PASSWORDS[user] for user, variable in VARIABLES.items()} | {"PATH": os.environ["PATH"]}
    with broker.connect("admin") as admin:
        acl = Path(str(admin.config_get("dir")["dir"])) / "users.acl"

        def load(words: str) -> None:
            acl.write_text(print_users(env | {"REDIS_WEB_PASSWORD": words}))
            admin.acl_load()

        try:
            load(f"new {PASSWORDS['web']}")
            assert [broker.connect("web", password).ping() for password in ("new", PASSWORDS["web"])] == [True, True]
            load("new")
            assert broker.connect("web", "new").ping()
            with pytest.raises(redis.AuthenticationError):
                broker.connect("web").ping()
        finally:
            load(PASSWORDS["web"])


def print_users(env: dict[str, str]) -> str:
    return subprocess.run(["sh", ROOT / "deploy/redis/users.sh"], env=env, capture_output=True, text=True, check=True).stdout


def test_printed_users_hold_no_password() -> None:
    env = {variable: f"canary '{shlex.quote(user)}' $(x) *" for user, variable in VARIABLES.items()} | {"PATH": os.environ["PATH"]}
    text = print_users(env)
    assert "canary" not in text and [line.split()[1] for line in text.splitlines()] == [
        "default",
        "health",
        "admin",
        "web",
        "beat",
        "worker",
        "flower",
    ]
    without = print_users({"PATH": os.environ["PATH"], "REDIS_WEB_PASSWORD": "x"})
    assert [line.split()[1] for line in without.splitlines()] == ["default", "health", "web"]
