"""Fixtures: a small shop, the two schedules, a fake broker and a fast heartbeat."""

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
    """Generate 60 orders, which are two slices, and retry without a delay."""
    settings.ETL_BATCH_ORDERS = 40
    settings.ETL_RETRY_SECONDS = 0
    return shop.generate(60, 1)


@pytest.fixture
def schedules(transactional_db: None) -> None:
    """Create the schedules as the migration does: the tables are emptied after each transactional test."""
    importlib.import_module("apps.orchestration.migrations.0001_initial").create_schedules(installed, None)


@pytest.fixture
def fast_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let heartbeats listen, and idle workers poll, every 50 ms."""
    monkeypatch.setattr("apps.orchestration.worker.heartbeat.LISTEN_INTERVAL_S", 0.05)
    monkeypatch.setattr("apps.orchestration.worker.local.LISTEN_INTERVAL_S", 0.05)
    monkeypatch.setattr("apps.orchestration.worker.loop.Worker.idle_s", 0.05)
