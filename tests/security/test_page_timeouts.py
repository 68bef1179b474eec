"""A page does not wait for a slow database, and leaves no limit behind that would end a statement of a run."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.urls import reverse

from apps.console.groups import VIEWER
from apps.demo import shop
from techmarket.statement_limits import PageTimeout, has_timed_out, limited_statements, unlimited_statements
from tests.console.conftest import SignIn

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
needs_servers = pytest.mark.skipif(
    settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="needs servers: SQLite locks no readers"
)
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000000) SELECT COUNT(*) FROM n"
SLOW = {"postgresql": "SELECT pg_sleep(20)", "mysql": "SELECT SLEEP(20) FROM regions", "sqlite": NUMBERS}
LONGER = {"postgresql": "SELECT pg_sleep(1.2)", "mysql": "SELECT SLEEP(1.2)", "sqlite": NUMBERS.replace("200000000", "8000000")}


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PAGE_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(settings, "SOURCE_PAGE_TIMEOUT_SECONDS", 1)


@contextmanager
def locked(alias: str, table: str) -> Iterator[None]:
    """Hold a lock on the table that no reader passes, in another session."""
    other: BaseDatabaseWrapper = connections[alias].copy()
    is_mysql = other.vendor == "mysql"
    with closing(other), other.cursor() as cursor:
        for statement in [f"LOCK TABLES {table} WRITE"] if is_mysql else ["BEGIN", f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"]:
            cursor.execute(statement)
        yield


def execute(alias: str, sql: str) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


@pytest.mark.parametrize("alias", ["default", "dwh", "orders_db"])
def test_slow_statement_of_a_page_is_ended(alias: str) -> None:
    shop.generate(5, 7)  # MySQL ends a sleep only between two rows, or in one of a table
    began = time.monotonic()
    with limited_statements() as timeouts, pytest.raises(PageTimeout, match=alias if alias != "default" else "control database") as error:
        execute(alias, SLOW[connections[alias].vendor])
    assert time.monotonic() - began < 5 and timeouts == [error.value] and "1 s. Choose" in error.value.message
    assert execute(alias, "SELECT 1"), "the session can be used"


@pytest.mark.parametrize("alias", ["default", "orders_db"])
def test_limit_does_not_outlast_its_statement(alias: str) -> None:
    connection = connections[alias]
    with limited_statements():
        execute(alias, "SELECT 1")
        if connection.vendor == "postgresql":
            with connection.connection.cursor() as cursor:
                assert cursor.execute("SHOW statement_timeout").fetchone() == ("0",)
        if connection.vendor == "mysql":
            with connection.connection.cursor() as cursor:
                cursor.execute(f"SELECT @@SESSION.{'max_statement_time' if connection.mysql_is_mariadb else 'max_execution_time'}")
                assert float(cursor.fetchone()[0]) == 0
        with unlimited_statements():
            execute(alias, LONGER[connection.vendor])
    execute(alias, LONGER[connection.vendor])


def test_other_threads_are_not_limited() -> None:
    """As runs on the command line, workers and the probes of a thread beside a page's."""
    found: list[Any] = []

    def ask() -> None:
        found.append(execute("default", LONGER[connections["default"].vendor]))
        connections.close_all()

    with limited_statements():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found


def test_transaction_goes_on_after_a_timeout_in_a_savepoint() -> None:
    with limited_statements(), transaction.atomic():
        User.objects.create_user("before")
        with pytest.raises(PageTimeout), transaction.atomic():
            execute("default", SLOW[connections["default"].vendor])
        User.objects.create_user("after")
    assert User.objects.count() == 2


def test_statements_change_rows_as_without_a_limit() -> None:
    with limited_statements():
        user = User.objects.create_user("olena")
        assert User.objects.filter(pk=user.pk).update(first_name="50 % %s") == 1
        assert list(User.objects.values_list("first_name", flat=True)) == ["50 % %s"] and User.objects.get() == user
        assert list(User.objects.iterator()) == [user] and User.objects.filter(pk=user.pk).delete()[0] == 1


@needs_servers
@pytest.mark.parametrize("table", ["orders", "customers", "regions"])
def test_page_of_a_locked_source_says_what_took_long(sign_in: SignIn, table: str) -> None:
    shop.generate(20, 7)
    viewer, began = sign_in(VIEWER), time.monotonic()
    page = reverse("admin:orders_db_order_changelist")
    with locked("orders_db", table):
        answer = viewer.get(page, {"q": "1"})
    text = answer.content.decode()
    assert (answer.status_code, answer["Retry-After"]) == (503, "30") and time.monotonic() - began < 5
    assert "orders_db (" in text and "within 1 s" in text and "Choose narrower filters" in text and "Traceback" not in text
    assert viewer.get(page, {"q": "1"}).status_code == 200, "it helps to try again"


@needs_servers
@pytest.mark.parametrize("table", ["orchestration_reject", "audit_entry", "auth_user", "django_session"])
def test_page_of_a_locked_control_database_is_no_error(sign_in: SignIn, table: str) -> None:
    viewer = sign_in(VIEWER)
    viewer.raise_request_exception = False
    with locked("default", table):
        answer = viewer.get(reverse("admin:orchestration_reject_changelist"))
    assert answer.status_code == 503 and b"Too busy for this page" in answer.content
    assert "default-src 'none'" in answer["Content-Security-Policy"]


@needs_servers
def test_overview_shows_that_the_warehouse_took_too_long(sign_in: SignIn) -> None:
    viewer = sign_in(VIEWER)
    with locked("dwh", "etl_load"):
        answer = viewer.get(reverse("admin:index"))
    assert answer.status_code == 200 and "within 1 s" in answer.content.decode()


@needs_servers
def test_limit_costs_no_round_trip(tmp_path: Path) -> None:
    """By libpq's own trace of what it sends."""
    connection = connections["default"]
    execute("default", "SELECT 1")
    with (tmp_path / "trace").open("w+") as trace, limited_statements():
        connection.connection.pgconn.trace(trace.fileno())
        for _ in range(3):
            execute("default", "SELECT 1")
        connection.connection.pgconn.untrace()
        sent = [line for line in (tmp_path / "trace").read_text().splitlines() if "\tF\t" in line]
    assert len(sent) == 3 and all("Query" in line and "SET LOCAL statement_timeout = 1000; SELECT 1" in line for line in sent)


def test_values_that_are_no_timeout_are_no_timeout() -> None:
    assert not has_timed_out(OperationalError()) and not has_timed_out(ValueError())
