"""A person may send so many costly requests in a minute, over all web processes; pages that refresh themselves do not count."""

import threading
import time
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone

from apps.audit.models import Deed, Entry, RequestRate
from apps.audit.rates import WINDOW_S, count_request
from apps.console.groups import OPERATOR, VIEWER
from apps.console.rate_limit import is_costly
from apps.orchestration.models import Run
from tests.console.conftest import SignIn
from tests.console.test_every_address import fill, walk

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIMIT = 3
RUNS, CSV = "admin:orchestration_run_changelist", "admin:orchestration_reject_csv"


@pytest.fixture(autouse=True)
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin where the minute does not end within a test."""
    monkeypatch.setattr(settings, "COSTLY_REQUESTS_PER_MINUTE", LIMIT)
    if (left := WINDOW_S - time.time() % WINDOW_S) < 8:
        time.sleep(left + 0.1)


def ask(client: Client, times: int, name: str = RUNS, **query: str) -> Any:
    for _ in range(times):
        answer = client.get(reverse(name), query)
        b"".join(answer)
    return answer


def begin_next_minute() -> None:
    RequestRate.objects.update(minute=0)


def test_searches_over_the_limit_are_refused_until_the_next_minute(sign_in: SignIn) -> None:
    viewer = sign_in(VIEWER)
    assert ask(viewer, LIMIT, q="1").status_code == 200
    refused = viewer.get(reverse(RUNS), {"q": "1"})
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert f"{LIMIT} searches" in refused.content.decode() and "default-src 'none'" in refused["Content-Security-Policy"]
    assert ask(viewer, 1, CSV).status_code == 429 and ask(viewer, 1, "admin:orders_db_order_changelist").status_code == 429
    assert ask(viewer, 9).status_code == 200, "the list without a filter"
    assert ask(sign_in(OPERATOR), 1, q="1").status_code == 200, "another person"
    begin_next_minute()
    assert ask(viewer, 1, q="1").status_code == 200


def test_sessions_of_a_person_share_the_limit(sign_in: SignIn) -> None:
    viewer, other = sign_in(VIEWER), Client()
    ask(viewer, LIMIT, q="1")
    other.force_login(viewer.get(reverse("admin:index")).wsgi_request.user)  # type: ignore[attr-defined]
    assert ask(other, 1, q="1").status_code == 429


def test_refusals_are_recorded_once(sign_in: SignIn) -> None:
    viewer = sign_in(VIEWER)
    for _ in range(2):
        ask(viewer, LIMIT + 3, q="1")
        begin_next_minute()
    [entry] = Entry.objects.filter(deed=Deed.REQUESTS_REFUSED)
    assert (entry.actor, entry.after) == (VIEWER, {"page": reverse(RUNS)})


def test_pages_that_refresh_themselves_are_not_counted(sign_in: SignIn) -> None:
    run = Run.objects.create(state="failed", mode="full", trigger="cli", requested_by="x", created_at=timezone.now())
    viewer = sign_in(VIEWER)
    for address in (reverse("console:now"), reverse("admin:orchestration_run_now", args=[run.pk])):
        for _ in range(LIMIT + 2):
            assert viewer.get(address, {"seen": "x"}, headers={"HX-Request": "true"}).status_code == 200
    assert not RequestRate.objects.exists()
    assert viewer.get(reverse(RUNS), {"q": "1"}, headers={"HX-Request": "true"}).status_code == 200
    assert RequestRate.objects.get().count == 1, "whatever the client calls its request"


def test_starts_count_and_their_form_does_not(sign_in: SignIn) -> None:
    operator = sign_in(OPERATOR)
    ask(operator, LIMIT + 2, "admin:orchestration_run_start")
    answers = [operator.post(reverse("admin:orchestration_run_start"), {"mode": "full", "preview": "1"}) for _ in range(LIMIT + 1)]
    assert [answer.status_code for answer in answers][-2:] == [302, 429]


def test_strangers_are_sent_to_the_login_and_not_counted(client: Client) -> None:
    assert ask(client, LIMIT + 2, CSV).status_code == 302 and not RequestRate.objects.exists()


def test_a_request_costs_one_statement(sign_in: SignIn) -> None:
    viewer, statements = sign_in(VIEWER), []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        statements.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        ask(viewer, 1, q="1")
    assert len([sql for sql in statements if "audit_request_rate" in sql]) == 1


def test_no_request_is_lost_between_processes() -> None:
    """Each thread has a connection of its own, as each process has."""
    found: list[int] = []

    def count() -> None:
        found.extend(count_request(7) for _ in range(5))
        connections.close_all()

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 31))


def test_every_export_and_every_list_of_a_source_is_counted(rf: Any) -> None:
    resolver, counted = get_resolver(), []
    for route in sorted(set(walk(resolver.url_patterns))):
        if (name := resolver.resolve(fill(route, "1")).url_name) and name.endswith(("_csv", "_xlsx", "_changelist", "autocomplete")):
            is_list = name.endswith("_changelist") and not name.startswith(tuple(settings.SOURCES))
            assert is_costly(rf.get(fill(route, "1")), resolver.resolve(fill(route, "1"))) is not is_list, name
            counted.append(name)
    assert len(counted) > 40
