"""Shared by all tests: tiers, parallel workers, fast emptying of databases, and `manage.py` as a process."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol

import pytest
from django.conf import settings

from tests import as_web, emptying, prepared
from tests.prepared import PASSED_ON
from tests.servers import Unavailable, need, program

ROOT = Path(__file__).resolve().parent.parent

# A background job of a shell inherits SIGINT as ignored, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

emptying.install()
as_web.install()

# In a shop of a dozen orders a single row is more than the brakes allow. Tests of the brakes set the limits that they need.
settings.ETL_MAX_REJECTED_PERCENT = settings.ETL_MAX_DELETED_PERCENT = settings.ETL_MAX_MONTH_PERCENT = 100

# A test asks for more pages in a minute than a person. Tests of the limit set the one that they need.
settings.COSTLY_REQUESTS_PER_MINUTE = 100_000


# --- Tiers: each test is in exactly one, `make test T=browser` runs one ---

TIERS = ("unit", "database", "process", "browser", "deploy")
DATABASE_FIXTURES = {"db", "transactional_db", "live_server", "template"}
PROCESS_FIXTURES = {"shop", "run_cli"}


def tier(item: pytest.Item) -> str:
    """Return the tier of a test: the one it is marked with, else the one of its folder, else what its fixtures need."""
    for name in TIERS:
        if item.get_closest_marker(name):
            return name
    folder = item.path.parent.name
    if folder in ("browser", "deploy"):
        return folder
    if PROCESS_FIXTURES & set(fixtures(item)):
        return "process"
    return "database" if uses_servers(item) else "unit"


def uses_servers(item: pytest.Item) -> bool:
    """Return True if a test uses a database or a broker that the environment names, so that its result may differ on servers.

    The databases of `run_cli` are always files; those of `shop` are copies of the `template`.
    """
    if DATABASE_FIXTURES & set(fixtures(item)) or item.get_closest_marker("django_db") or item.get_closest_marker("servers"):
        return True
    return any("servers" in str(mark.kwargs.get("reason", "")) for mark in item.iter_markers("skipif"))


def fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier(item))
        if not uses_servers(item):
            item.add_marker("once")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # begun last, one would keep the other workers waiting


def pytest_collection_finish() -> None:
    """Exempt modules and tests from garbage collection, and collect less often: 3 % of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def roles() -> None:
    if url := os.environ.get("TEST_POSTGRES_URL"):
        as_web.create_roles(url)


@pytest.fixture(scope="session")
def django_db_setup(roles: None, django_db_setup: None, django_db_blocker: Any) -> None:
    """Create the test databases as pytest-django does, empty except for what every migrate creates."""
    with django_db_blocker.unblock():
        emptying.start()


@pytest.fixture(autouse=True)
def room_for_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the exports of each test alone: an answer that a test does not read to its end occupies a place until it is collected."""
    if exports := sys.modules.get("apps.console.export"):
        monkeypatch.setattr(exports, "running", BoundedSemaphore(exports.MAX_EXPORTS))


# --- Parallel workers: each has its own folders, databases and broker ---


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Give each worker its own VAR_DIR and Redis database before it reads the settings; pytest-django names the test databases."""
    redis_url = os.environ.get("TEST_REDIS_URL")
    for number, spec in enumerate(specs):
        spec.env["VAR_DIR"] = str(Path(settings.VAR_DIR) / "test" / spec.id)
        if redis_url:
            spec.env["CELERY_BROKER_URL"] = spec.env["TEST_REDIS_URL"] = f"{redis_url.rsplit('/', 1)[0]}/{number}"


def require_program(name: str, *packages: str) -> Path:
    """Return a third-party program, installed from Debian's packages where this user is root; skip the test without it."""
    try:
        return need(lambda: program(name), name, "PATH", *packages)
    except Unavailable as error:
        pytest.skip(str(error))


class Cli(Protocol):
    def __call__(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]": ...


@pytest.fixture
def run_cli(tmp_path: Path) -> Cli:
    """Return a function that runs `manage.py` in its own process with only `env`; without URLs there its databases are new SQLite files.

    The process is a prepared one where that makes no difference.
    """

    def run(
        *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        whole = passed_on | {"VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull} | dict(env or {})
        if prepared.can_run(env or {}, {}):
            return prepared.run(*args, env=whole, cwd=cwd or ROOT, timeout=timeout)
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *args],
            env=whole,
            cwd=cwd or ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """An S3 server, tests.s3.S3, for all tests of a worker; each takes a bucket of its own."""
    from tests.s3 import s3_server  # boto3 takes half a second, which only these tests need

    with s3_server() as server:
        yield server
