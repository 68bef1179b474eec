"""/healthz and /readyz as a kubelet requests them: over plain HTTP, by address, and within seconds."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from django.db import connections
from django.test import Client
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from apps.monitoring import probes
from techmarket.pending import count_pending_migrations

in_process = pytest.mark.django_db(transaction=True, databases="__all__")
KUBELET = {"SERVER_NAME": "10.1.2.3", "SERVER_PORT": "8000", "REMOTE_ADDR": "10.1.0.1"}


@pytest.fixture
def production(settings: Settings) -> Settings:
    settings.DEBUG, settings.SECURE_SSL_REDIRECT, settings.ALLOWED_HOSTS = False, True, ["etl.example.com"]
    return settings


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port that accepts connections and never sends a byte."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_healthz_queries_no_database(production: Settings) -> None:
    """Without a database mark, pytest-django fails this test on any query."""
    response = Client(**KUBELET).get("/healthz")
    assert (response.status_code, response.content) == (200, b"alive\n")
    assert Client(**KUBELET).post("/healthz").status_code == 405


def test_other_paths_are_redirected_and_checked(production: Settings) -> None:
    assert Client(**KUBELET).get("/admin/login/").status_code == 400
    assert Client(SERVER_NAME="etl.example.com").get("/healthz/").status_code == 301
    assert Client(SERVER_NAME="etl.example.com").get("/admin/login/").status_code == 301


@in_process
def test_readyz_reports_every_part(production: Settings) -> None:
    response = Client(**KUBELET).get("/readyz")
    ok = {"ok": True, "cause": ""}
    assert (response.status_code, response.json()) == (200, {"ready": True, "parts": {"control": ok, "dwh": ok, "broker": ok}})
    assert "no-store" in response["Cache-Control"]


@in_process
def test_database_without_a_migration(production: Settings) -> None:
    with connections["dwh"].cursor() as cursor:
        latest = "SELECT MAX(name) FROM django_migrations WHERE app = 'dwh'"
        cursor.execute(f"UPDATE django_migrations SET name = 'x' || name WHERE app = 'dwh' AND name = ({latest})")
    try:
        assert count_pending_migrations("dwh") == 1
        response = Client(**KUBELET).get("/readyz")
    finally:
        with connections["dwh"].cursor() as cursor:
            cursor.execute("UPDATE django_migrations SET name = substr(name, 2) WHERE name LIKE 'x%'")
    assert response.status_code == 503
    parts = response.json()["parts"]
    assert parts["control"]["ok"] and parts["dwh"] == {"ok": False, "cause": "A table is missing. Run `manage.py migrate_all`."}


@in_process
def test_broker_is_down(production: Settings, silent_port: int) -> None:
    """/readyz gives up on a silent broker, names no address, and does not wait for parts that were not requested."""
    production.CELERY_BROKER_URL = f"redis://:canary@127.0.0.1:{silent_port}/0"
    response = Client(**KUBELET).get("/readyz")
    assert response.status_code == 503 and response.json()["parts"]["broker"] == {"ok": False, "cause": probes.NO_ANSWER}
    assert Client(**KUBELET).get("/readyz?only=control&only=dwh").json()["ready"]

    production.CELERY_BROKER_URL = "redis://:canary@127.0.0.1:1/0"
    with capture_logs() as lines:
        response = Client(**KUBELET).get("/readyz?only=broker")
    assert response.status_code == 503 and response.json()["parts"] == {"broker": {"ok": False, "cause": "A server does not answer."}}
    assert {line["part"] for line in lines} == {"broker"} and "canary" not in str(lines)


@in_process
def test_unknown_part_is_refused() -> None:
    response = Client(**KUBELET).get("/readyz?only=dwh&only=<b>")
    assert response.status_code == 400 and response.json()["error"].endswith("there are control, dwh, broker")
