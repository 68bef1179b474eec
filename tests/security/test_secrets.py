"""No secret of the settings, nor half of one, is in anything that TechMarket writes, answers or starts, also where it fails."""

import base64
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from django.conf import settings

from tests.failures.conftest import ON_SERVERS, Shop, administer
from tests.refusals.case import SECRET as ADMIN_SECRET
from tests.refusals.case import Request
from tests.refusals.stage import ADMINISTRATOR, Server

pytestmark = [pytest.mark.process, pytest.mark.long]
NOWHERE = "127.0.0.1:9"
USER = "canary"
MIN_PART = 9  # characters of a part that counts as found: a shorter one may stand in ordinary text


def make_secret(name: str) -> str:
    """Return a password as a generator makes it, with what addresses and shells spell otherwise."""
    return f"{sha256(name.encode()).hexdigest()[:14]}@/{sha256(name.encode()).hexdigest()[14:28]}"


PLAIN = ("SECRET_KEY", "METRICS_TOKEN", "METABASE_PASS", "SECRET_KEY_FALLBACKS", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
OF_SERVERS = {**settings.PRIMARIES, "bi": "DWH_BI_URL", "broker": "CELERY_BROKER_URL"}
SECRETS = {name: make_secret(name) for name in (*PLAIN, *OF_SERVERS.values(), "NOTIFY_URL", "LOGIN")}
LONG = {name: f"{SECRETS[name]}-{make_secret(name + '2')}" for name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS")}
SETTINGS = (
    {name: SECRETS[name] for name in PLAIN}
    | LONG
    | {
        "NOTIFY_URL": f"http://{NOWHERE}/hooks/{quote(SECRETS['NOTIFY_URL'], safe='')}",
        "DWH_BI_URL": f"postgres://bi_reader:{quote(SECRETS['DWH_BI_URL'], safe='')}@{NOWHERE}/dwh",
        "METABASE_URL": f"http://{NOWHERE}",
        "METABASE_USER": "admin@example.com",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    }
)


def spell(secret: str) -> Iterator[str]:
    """Yield the halves of the secret, which no spelling of addresses changes, and the whole in base64 at each offset."""
    yield from re.findall(rf"\w{{{MIN_PART},}}", secret)
    for offset in range(3):
        yield base64.b64encode(b"x" * offset + secret.encode()).decode()[4:-4]


FORMS = {form: name for name, secret in (SECRETS | LONG).items() for form in spell(secret)}
ANY = re.compile("|".join(map(re.escape, sorted(FORMS, key=len, reverse=True))))


class Places:
    """Everything that was searched, and where a secret was found."""

    def __init__(self) -> None:
        self.count = 0
        self.found: list[tuple[str, str]] = []

    def search(self, place: str, text: str) -> None:
        self.count += 1
        self.found += [(place, f"{FORMS[form]} as {form}") for form in dict.fromkeys(ANY.findall(text))]


@contextmanager
def watched(places: Places) -> Iterator[None]:
    """Search the command line of each process of this machine, again and again, while the programs inside run."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for line in seen:
            places.search(f"process {line[:80]!r}", line.decode(errors="replace"))


@pytest.fixture
def places() -> Places:
    return Places()


@pytest.fixture
def env(shop: Shop) -> Iterator[dict[str, str]]:
    """Return settings that are full of secrets; on servers the shop's databases are those of a user with such a password."""
    if not ON_SERVERS:
        yield SETTINGS
        return
    names = {alias: (f"{USER}_{os.getpid()}", SECRETS[variable]) for alias, variable in settings.PRIMARIES.items()}
    mysql, postgres = names["orders_db"], names["dwh"]
    administer("orders_db", f"CREATE USER '{mysql[0]}'@'%' IDENTIFIED BY '{mysql[1]}'")
    administer("orders_db", f"GRANT ALL ON *.* TO '{mysql[0]}'@'%'")
    administer("dwh", f"CREATE ROLE {postgres[0]} SUPERUSER LOGIN PASSWORD '{postgres[1]}'")
    try:
        urls = {}
        for alias, url in shop.urls.items():
            user, password = mysql if alias in settings.SOURCES else postgres
            address = urlsplit(url)
            login = f"{user}:{quote(password, safe='')}@{address.netloc.rpartition('@')[2]}"
            urls[settings.VARIABLES[alias]] = address._replace(netloc=login).geturl()
        yield SETTINGS | urls
    finally:
        administer("orders_db", f"DROP USER '{mysql[0]}'@'%'")
        administer("dwh", f"DROP ROLE {postgres[0]}")


COMMANDS = (
    "migrate_all",
    "generate_data --changes 5",
    "run_etl --json",
    "run_etl --mode full -v 3",
    "run_etl --resume 1",
    "ping",
    "backup --verify",
    "audit --json",
    "audit --verify",
    "kpis --balances",
    "rejects --json",
    "reconcile",
    "schedules",
    "report --out FOLDER/report.html",
    "version",
    "check",
    "diffsettings --all",
    "seed_metabase --wait 0",
)
FAILING = ("run_etl", "run_etl -v 3", "ping", "migrate_all", "backup", "audit", "kpis", "reconcile")


def list_failures() -> Iterator[tuple[str, str]]:
    """Yield each setting with a server that does not answer, or with a mistake beside its secret."""
    for alias, name in (*settings.PRIMARIES.items(), ("broker", "CELERY_BROKER_URL")):
        kind = "redis" if alias == "broker" else "mysql" if alias in settings.SOURCES else "postgres"
        quoted = quote(SECRETS[name], safe="")
        yield name, f"{kind}://user:{quoted}@{NOWHERE}/{0 if alias == 'broker' else alias}"
        yield name, f"{kind}://user:{SECRETS[name]}@no-such-host.invalid:9/0"
    yield "ETL_BATCH_URL", f"s3://bucket/prefix?endpoint_override={NOWHERE}&scheme=http&region=x"
    yield "ETL_BATCH_URL", f"s3://AKIA:{SECRETS['AWS_SECRET_ACCESS_KEY']}@bucket/prefix"


def search_files(places: Places, folder: Path) -> None:
    """Search all files of the shop: ledger, audit log, backups and their manifests."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if path.suffix == ".sqlite3":
            with closing(sqlite3.connect(path)) as connection:
                places.search(path.name, "\n".join(connection.iterdump()))
        elif not path.name.endswith(("-wal", "-shm")):
            places.search(str(path.relative_to(folder)), path.read_bytes().decode("latin-1"))


def test_commands_show_no_secret(shop: Shop, env: Mapping[str, str], places: Places) -> None:
    with watched(places):
        for log_format in ("console", "json"):
            for command in COMMANDS:
                result = shop.run(*command.replace("FOLDER", str(shop.folder)).split(), env=dict(env) | {"LOG_FORMAT": log_format})
                if command != "diffsettings --all":  # Django's own, which shows all settings to whoever has them
                    places.search(f"{command} ({log_format})", result.stdout + result.stderr)
        for number, (name, value) in enumerate(list_failures()):
            for command in FAILING[number % 2 :: 2]:
                result = shop.run(*command.split(), env=dict(env) | {name: value, "ETL_RETRY_SECONDS": "0", "LOG_FORMAT": "json"})
                assert result.returncode in (0, 1, 2, 3, 4, 5, 6), result.stderr
                places.search(f"{command} with {name}", result.stdout + result.stderr)
    search_files(places, shop.folder)
    for alias in shop.urls:
        for table in ("orchestration_run", "orchestration_task", "orchestration_attempt", "audit_entry") if alias == "default" else ():
            places.search(table, repr(shop.sql(alias, f"SELECT * FROM {table}")))
    print(f"{places.count} places searched")
    assert places.count > 60 and places.found == []


@pytest.mark.parametrize(
    "wrong", [lambda secret: secret, quote, lambda secret: secret[:14], lambda secret: base64.b64encode(secret.encode()).decode()]
)
def test_a_secret_would_be_found(places: Places, wrong: Callable[[str], str]) -> None:
    for name, secret in (SECRETS | LONG).items():
        places.search(name, f"connecting as '{wrong(secret)}'")
    assert len(places.found) >= len(SECRETS | LONG)


@pytest.mark.once
def test_log_masks_every_secret_of_the_settings(shop: Shop, places: Places) -> None:
    """Whichever library may log one."""
    urls = {name: value for name, value in list_failures() if "@/" not in value and NOWHERE in value and not value.startswith("s3")}
    env = SETTINGS | urls | {"ETL_BATCH_URL": "s3://bucket/prefix"}
    logged = [secret for name, secret in (SECRETS | LONG).items() if name != "LOGIN"]
    code = f"import logging\nfor secret in {logged!r}: logging.getLogger('apps').error('it is <%s>', secret)"
    for log_format in ("console", "json"):
        result = shop.run("shell", "-v", "0", "-c", code, env=env | {"LOG_FORMAT": log_format})
        assert result.stderr.count("it is <***>") == len(logged), result.stderr
        places.search(log_format, result.stderr)
    assert places.found == []


@pytest.mark.once
def test_pages_and_the_log_of_the_web_process_show_no_secret(shop: Shop, places: Places) -> None:
    account = {"DJANGO_SUPERUSER_PASSWORD": f"{ADMIN_SECRET}-of-the-admin"}
    words = ("--noinput", "--username", ADMINISTRATOR, "--email", "a@example.com")
    assert shop.run("createsuperuser", *words, env=account).returncode == 0
    shop.env |= SETTINGS
    web: Any = Server(shop)  # type: ignore[arg-type]  # of a shop it takes the folder and the environment
    try:
        bearer = {"Authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"}
        requests = [Request("GET", path) for path in PATHS] + [
            Request("GET", f"{path}?q={quote(SECRETS['LOGIN'])}") for path in WITH_SECRET
        ]
        requests += [Request("GET", "/metrics", headers=bearer), Request("GET", "/metrics", headers={"Authorization": "Bearer x"})]
        requests += [
            Request("GET", "/admin/", headers={"Host": "evil.example"}),
            Request("POST", "/admin/", {"a": "b"}, {"X-CSRFToken": ""}),
        ]
        requests += [Request("POST", "/admin/login/", {"username": "petro", "password": SECRETS["LOGIN"]}, anonymous=True)]
        for request in requests:
            answer = web.send(request)
            hidden = answer.content if "?q=" not in request.target else ""  # a page repeats what was searched for
            places.search(f"{request.method} {request.target}", f"{hidden}{answer.headers}")
        for name in ("orders", "control"):  # a database that has gone, and one that is damaged
            (shop.folder / f"{name}.sqlite3").write_bytes(b"damaged" * 1_000)
            for path in PATHS:
                places.search(f"{path} without {name}", str(web.send(Request("GET", path))))
    finally:
        web.close()
        time.sleep(0.1)
    places.search("the log", web.read_log())
    print(f"{places.count} places searched")
    assert places.count > 40 and places.found == []


PATHS = (
    "/admin/",
    "/admin/orchestration/run/",
    "/admin/orchestration/run/1/change/",
    "/admin/orchestration/run/start/",
    "/admin/orders_db/order/",
    "/admin/audit/entry/",
    "/admin/audit/entry/csv/",
    "/admin/auth/user/",
    "/admin/django_celery_beat/periodictask/",
    "/admin/jsi18n/",
    "/admin/none/",
    "/none/",
    "/healthz",
    "/readyz",
)
WITH_SECRET = ("/admin/orders_db/customer/", "/admin/audit/entry/")
