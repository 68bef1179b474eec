"""A small shop, the two schedules, and the messages that would have gone to the broker."""

import importlib

import pytest
from django.apps import apps as installed
from pytest_django.fixtures import Settings

from apps.demo import shop
from apps.orchestration.worker import delivery
from tests.orchestration.harness import FakeBroker


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    broker = FakeBroker()
    monkeypatch.setattr(delivery, "send_message", broker.send)
    return broker


@pytest.fixture
def small_shop(transactional_db: None, settings: Settings) -> dict[str, int]:
    """60 orders in two slices; no wait before another attempt."""
    settings.ETL_BATCH_ORDERS = 40
    settings.ETL_RETRY_SECONDS = 0
    return shop.generate(60, 1)


@pytest.fixture
def schedules(transactional_db: None) -> None:
    """As the migration makes them: a test that empties the tables takes them away."""
    importlib.import_module("apps.orchestration.migrations.0001_initial").create_schedules(installed, None)


@pytest.fixture
def quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heart that listens every twentieth of a second."""
    monkeypatch.setattr("apps.orchestration.worker.heartbeat.LISTEN_INTERVAL_S", 0.05)
    monkeypatch.setattr("apps.orchestration.worker.local.LISTEN_INTERVAL_S", 0.05)
    monkeypatch.setattr("apps.orchestration.worker.loop.Worker.idle_s", 0.05)
