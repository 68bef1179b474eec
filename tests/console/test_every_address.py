"""Every address of the resolver, with what people type, paste and mangle: a page or a refusal in the site's clothes, never a 500."""

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from apps.demo import shop
from apps.orchestration.models import DayProof, Decision, PaymentMismatch, Reject, Run, Schedule, ScheduledRun, StandingReject, Task

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),  # of Django's own filters of dates
]
# As an address spells them: NUL, bytes that are no UTF-8, a lone surrogate, other digits, numbers and dates out of every range.
VALUES = (
    "",
    "%00",
    "a%00b",
    "%ff%fe",
    "%ed%a0%80",
    "1" + "0" * 30,
    "9223372036854775808",
    "-1",
    "%D9%A3",
    "%C2%B2",
    "nan",
    "10000-01-01",
    "0000-00-00",
    "9999-12-31",
    "%F0%9F%98%80",
    "%25s%7B0%7D%27%22%3C",
    "x" * 10_000,
)
FEW = ("%00", "%ed%a0%80", "1" + "0" * 30, "-1", "%C2%B2", "9999-12-31")
# The parameters of Django's lists, and those of our own pages.
LIST_NAMES = ("q", "p", "o", "e", "all", "_popup", "_to_field", "_changelist_filters", "action", "_selected_action", "index", "next")
OUR_NAMES = (
    "run",
    "reject",
    "reason",
    "mode",
    "start_date",
    "end_date",
    "preview",
    "start",
    "end",
    "region",
    "side",
    "seen",
    "resolution",
    "age",
    "rule__exact",
    "table__exact",
    "state__exact",
    "run__exact",
    "run_id__exact",
    "created_at__year",
    "day__year",
    "day__month",
    "date__gte",
    "nothing__x",
    "term",
    "app_label",
    "model_name",
    "field_name",
    "language",
    "username",
)
# Django's pages of a model; its lists have tests of their own in test_addresses.py, ours have filters of our own.
DJANGO_PAGES = re.compile(r"<path:object_id>|/add/$|^/admin/(?!orchestration|django)[a-z_]+/[a-z]+/$")
MONITORED = ("/healthz", "/readyz", "/metrics")  # they take no parameters, and readyz some seconds
REFUSALS = (200, 302, 400, 403, 404, 405)


def walk(patterns: Any, prefix: str = "/") -> Iterator[str]:
    """Yield the route of every pattern of the resolver."""
    for each in patterns:
        if isinstance(each, URLResolver):
            yield from walk(each.url_patterns, prefix + str(each.pattern))
        elif isinstance(each, URLPattern):
            yield prefix + str(each.pattern)


def find_part(route: str) -> str:
    return "/".join(route.split("/")[:4])


ROUTES = sorted(set(walk(get_resolver().url_patterns)))
PARTS = sorted({find_part(route) for route in ROUTES})


def fill(route: str, value: str) -> str:
    """Return the address of the route with this value for each of its arguments."""
    return re.sub(r"<[^>]+>", lambda match: value, re.sub(r"\^?\(\?P<[^>]+>[^)]*\)/?\$?", "<it>", route))


def list_requests(route: str) -> Iterator[tuple[str, str, str]]:
    """Yield method, address and body of what is asked of the route: less of Django's pages, of which there are five for each model."""
    good = fill(route, "1")
    if route in MONITORED:
        yield "GET", f"{good}?q=%00&p={FEW[2]}", ""
        return
    is_ours = not DJANGO_PAGES.search(route)
    if good != route:
        for value in VALUES if is_ours else FEW[:4]:
            yield "GET", fill(route, value), ""
        yield "POST", fill(route, FEW[0]), "reason=x"
    names = LIST_NAMES + OUR_NAMES if is_ours else LIST_NAMES
    for value in FEW if is_ours else FEW[:1]:
        yield "GET", f"{good}?{'&'.join(f'{name}={value}' for name in names)}", ""
        yield "POST", good, "&".join(f"{name}={value}" for name in names)
    yield "GET", f"{good}?_to_field=", ""
    if not is_ours:
        return
    for name in names:
        yield "GET", f"{good}?{name}={FEW[2]}&{name}=1", ""
    for value in VALUES:
        yield "GET", f"{good}?q={value}&start={value}&run={value}", ""
    for body in ("", "action=nothing", "action=rerun_selected", "action=accept_selected&_selected_action=%00&index=x", "run=9&reject=9"):
        yield "POST", good, body


@pytest.fixture
def rows(transactional_db: None, schedules: None) -> None:
    """Rows of every page that has parameters of its own; each has number 1 where it has a number."""
    shop.generate(5, 7)
    now = timezone.now()
    run = Run.objects.create(state="failed", mode="incremental", trigger="admin", requested_by="root", created_at=now)
    raw: dict[str, Any] = {"table": "order_items", "row_id": "1", "rule": "quantity_not_positive", "params": {}, "raw": {}}
    task = Task.objects.create(run=run, stage="extract", subject="fact_sales", state="failed")
    Reject.objects.create(run=run, task=task, **raw)
    StandingReject.objects.create(subject="fact_sales", first_run=run.pk, last_run=run.pk, first_seen=now, last_seen=now, **raw)
    DayProof.objects.create(day=date(2026, 1, 1), verdict="equal", checked_at=now)
    amounts = dict.fromkeys(("net", "captured", "refunded"), Decimal(1))
    PaymentMismatch.objects.create(kind="unpaid", order_id=1, day=date(2026, 1, 1), checked_at=now, **amounts)
    held = Schedule.objects.first()
    assert held is not None
    ScheduledRun.objects.create(schedule=held, scheduled_for=now, decision=Decision.HELD)


@pytest.mark.parametrize("part", PARTS)
def test_no_address_is_an_error(rows: None, schedules: None, part: str) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    client.raise_request_exception = False
    for route in (route for route in ROUTES if find_part(route) == part and "logout" not in route):
        for method, address, body in list_requests(route):
            answer = client.generic(method, address, body, content_type="application/x-www-form-urlencoded")
            assert answer.status_code in REFUSALS or "/readyz" in route, (method, address[:300], body[:300])
            b"".join(answer)


def test_pages_beside_those_of_django_are_walked() -> None:
    assert {"/admin/orchestration/run/start/", "/admin/dwh/factsales/balances/", "/admin/now/", "/admin/jsi18n/"} <= set(ROUTES)


@pytest.mark.parametrize("cookie", ['"\\000abcdefgh"', "x" * 3_000, '"\\355\\240\\200abcdefgh"'])
def test_cookies_that_a_database_cannot_hold_are_no_error(transactional_db: None, cookie: str) -> None:
    client = Client(raise_request_exception=False)
    answer = client.get(
        "/admin/", headers={"cookie": f"sessionid={cookie}; csrftoken={cookie}; messages={cookie}; django_language={cookie}"}
    )
    assert answer.status_code in (302, 400)
