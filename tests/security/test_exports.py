"""Exports of many rows: hidden in every row, few at once, broken off without a trace, and without a transaction for a slow client."""

import socket
import time
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.urls import reverse

from apps.audit.models import Deed, Entry
from apps.console import export
from apps.console.groups import OPERATOR, VIEWER
from apps.console.personal import reader
from apps.console.rejects.admin import RejectAdmin
from apps.orchestration.models import Reject
from techmarket import statement_limits
from tests.console.conftest import SignIn
from tests.console.test_rejects import ROW, create_reject

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
ROWS = 9
CSV, XLSX = (f"admin:orchestration_reject_{kind}" for kind in ("csv", "xlsx"))
CANARY = max(map(str, ROW.values()), key=len)


@pytest.fixture(autouse=True)
def rejects(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a chunk has, so that most are read when the middleware has returned."""
    monkeypatch.setattr(export, "CHUNK_ROWS", 2)
    first = create_reject(row_id="1")
    rows = [
        Reject(run=first.run, task=first.task, table=first.table, rule=first.rule, raw=ROW, row_id=str(number))
        for number in range(2, ROWS + 1)
    ]
    Reject.objects.bulk_create(rows)


def get(client: Any, name: str = CSV) -> Any:
    answer = client.get(reverse(name))
    assert answer.status_code == 200
    return answer


def test_every_streamed_row_is_hidden_from_a_viewer(sign_in: SignIn) -> None:
    hidden, shown = get(sign_in(VIEWER)), get(sign_in(OPERATOR))
    pairs = list(zip(hidden, shown, strict=True))  # two requests of one thread, by turns
    assert len(pairs) == ROWS + 1 and reader.get() is None
    for row, operators in pairs[1:]:
        assert "•••" in row.decode() and CANARY not in row.decode() and CANARY in operators.decode()


def test_exports_do_not_occupy_all_threads(sign_in: SignIn) -> None:
    viewer = sign_in(VIEWER)
    open_ones = [get(viewer) for _ in range(export.MAX_EXPORTS)]
    for name in (CSV, XLSX):
        refused = viewer.get(reverse(name))
        assert (refused.status_code, refused["Retry-After"]) == (
            503,
            "30",
        ) and "Other exports are being written" in refused.content.decode()
    assert viewer.get(reverse("admin:orchestration_reject_changelist")).status_code == 200
    b"".join(open_ones.pop())
    assert len(list(get(viewer))) == ROWS + 1, "one has ended"
    open_ones.pop().close()


@pytest.mark.parametrize("name", [CSV, XLSX])
def test_failed_export_makes_room_for_the_next(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    operator = sign_in(OPERATOR)
    operator.raise_request_exception = False
    monkeypatch.setattr(export, "record", lambda *args, **options: 1 / 0)
    assert [operator.get(reverse(name)).status_code for _ in range(export.MAX_EXPORTS + 1)] == [500] * (export.MAX_EXPORTS + 1)
    monkeypatch.undo()
    b"".join(get(operator, name))


def test_export_that_is_broken_off_frees_all_and_leaves_its_entries(sign_in: SignIn) -> None:
    operator = sign_in(OPERATOR)
    for _ in range(export.MAX_EXPORTS + 1):
        answer = get(operator)
        rows = iter(answer.streaming_content)
        next(rows), next(rows)
        assert count_cursors() == (1 if connections["default"].vendor == "postgresql" else 0)
        del rows
        answer.close()
        assert count_cursors() == 0
    exported, viewed = (list(Entry.objects.filter(deed=deed)) for deed in (Deed.DATA_EXPORTED, Deed.PERSONAL_DATA_VIEWED))
    assert len(exported) == len(viewed) == export.MAX_EXPORTS + 1
    assert {entry.actor for entry in exported + viewed} == {OPERATOR}
    assert all(1 <= entry.after["rows"]["orchestration.Reject"] < ROWS for entry in viewed)


def count_cursors() -> int:
    if connections["default"].vendor != "postgresql":
        return 0
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pg_cursors")
        return int(cursor.fetchone()[0])


def test_file_of_an_export_is_closed_with_it(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Any] = []
    create = export.TemporaryFile
    monkeypatch.setattr(export, "TemporaryFile", lambda: files.append(create()) or files[-1])
    answer = get(sign_in(OPERATOR), XLSX)
    assert not files[0].closed
    answer.close()
    assert files[0].closed


def test_slow_client_holds_no_transaction_and_gets_the_rows_of_the_beginning(sign_in: SignIn) -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("SQLite has no sessions to look at; servers")
    rows = iter(get(sign_in(VIEWER)).streaming_content)
    next(rows), next(rows)
    connection = connections["default"].connection
    assert isinstance(connection, psycopg.Connection)
    with psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True) as other:
        look = "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = %s"
        assert other.execute(look, [connection.info.backend_pid]).fetchone() == ("idle", None, None)
        other.execute("DELETE FROM orchestration_reject")
    assert len(list(rows)) == ROWS - 1 and not Reject.objects.exists()


def test_export_is_not_ended_as_a_page(sign_in: SignIn, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PAGE_TIMEOUT_SECONDS = 1
    monkeypatch.setattr(statement_limits, "SQLITE_STEPS", 1)
    monkeypatch.setattr(RejectAdmin, "export_cells", lambda page, row: (time.sleep(0.2), row.pk))
    assert b"".join(get(sign_in(OPERATOR), XLSX)).startswith(b"PK")


def test_socket_of_an_export_waits_for_its_client_for_a_minute(sign_in: SignIn) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answer = sign_in(VIEWER).get(reverse(CSV), **{"gunicorn.socket": ours})
        assert ours.gettimeout() == export.SEND_TIMEOUT_S
        answer.close()
