"""The brake: so many snapshots on one source at once, over all processes."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from apps.etl import interrupts
from apps.etl.extract import brake
from apps.etl.extract.brake import NoPlace
from apps.etl.extract.snapshot import open_session, open_snapshot, open_snapshots
from apps.etl.extract.survey import survey_everything
from apps.etl.reconcile.compare import Rejected, compare
from apps.etl.tables import FINGERPRINTED
from techmarket.errors import EtlError, Transient
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.django_db(databases=[*settings.PRIMARIES]),
    pytest.mark.skipif(settings.DATABASES["orders_db"]["ENGINE"].endswith("sqlite3"), reason="needs servers: a file has no brake"),
]
HOLDER = """
import django, sys, time
django.setup()
from django.conf import settings
settings.DATABASES["orders_db"]["NAME"] = sys.argv[1]
settings.ETL_SOURCE_CONNECTIONS = 1
from apps.etl.extract.snapshot import open_snapshot
with open_snapshot("orders_db"):
    print("open", flush=True)
    time.sleep(600)
"""


class Opener(threading.Thread):
    """Opens a snapshot of the orders in a thread, and holds it until `close`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.opened, self.closing = threading.Event(), threading.Event()
        self.error: EtlError | None = None
        self.start()

    def run(self) -> None:
        try:
            with open_snapshot("orders_db"):
                self.opened.set()
                self.closing.wait(60)
        except EtlError as error:
            self.error = error

    def close(self) -> None:
        self.closing.set()
        self.join(10)


@pytest.fixture
def places(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    settings.ETL_SOURCE_CONNECTIONS = 2
    monkeypatch.setattr(brake, "POLL_S", 0.05)
    with ExitStack() as stack:
        yield stack


def test_third_snapshot_waits_for_one_of_two_places(places: ExitStack) -> None:
    first, second = Opener(), Opener()
    assert first.opened.wait(10) and second.opened.wait(10)
    with capture_logs() as lines:
        third = Opener()
        assert not third.opened.wait(1)
        first.close()
        assert third.opened.wait(10)
    for each in (second, third):
        each.close()
    assert [line["event"] for line in lines] == ["waiting for a place at a source", "took a place at a source"]
    assert (lines[0]["places"], len(lines[0]["sessions"])) == (2, 2)


def test_places_of_two_sources_are_separate(places: ExitStack) -> None:
    for _ in range(2):
        places.enter_context(open_snapshot("orders_db"))
        places.enter_context(open_snapshot("payments_db"))
    with pytest.raises(NoPlace), open_session("orders_db", wait=False):
        pass


def test_places_are_all_taken_before_the_first_snapshot(places: ExitStack) -> None:
    """A snapshot of the payments that waited for a place at the orders would make the shop keep old rows for as long."""
    held = [places.enter_context(open_snapshot("orders_db")) for _ in range(2)]
    with pytest.raises(NoPlace), open_snapshots(FINGERPRINTED, wait=False):
        pass
    assert held
    places.enter_context(open_session("payments_db", wait=False))  # given back
    places.enter_context(open_session("payments_db", wait=False))


def test_killed_process_leaves_its_place(places: ExitStack, settings: Settings) -> None:
    settings.ETL_SOURCE_CONNECTIONS = 1
    name = str(settings.DATABASES["orders_db"]["NAME"])
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        with pytest.raises(NoPlace), open_session("orders_db", wait=False):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        began = time.monotonic()
        with open_snapshot("orders_db"):
            assert time.monotonic() - began < 5
    finally:
        holder.kill()
        holder.communicate()


def test_interrupt_ends_the_waiting(places: ExitStack) -> None:
    for _ in range(2):
        places.enter_context(open_snapshot("orders_db"))
    third = Opener()
    assert not third.opened.wait(0.5)
    interrupts.interrupt()
    third.join(10)
    assert isinstance(third.error, Transient) and not third.opened.is_set()


def test_no_reader_waits_for_itself(places: ExitStack, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan and a comparison open more than one snapshot of a source."""
    settings.ETL_SOURCE_CONNECTIONS = 1
    monkeypatch.setattr("apps.etl.reconcile.compare.plan_steps", two_steps)
    steps: list[int] = []
    survey_everything(20)
    compare("Europe/Kyiv", None, Rejected(), None, lambda done, of: steps.append(of))
    assert steps[-1] == 3


def two_steps(orders: object, period: object) -> Iterator[object]:
    from apps.etl.reconcile.compare import Step

    yield Step("o.id < 10", [], (None, 10))
    yield Step("o.id >= 10", [], (10, None))
