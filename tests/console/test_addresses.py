"""Every list of the admin, with addresses that people type by hand and values that only the page cannot bear: never a 500."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connections
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from apps.console.groups import OPERATOR, VIEWER
from apps.console.readonly import ReadOnlyAdmin
from apps.demo import shop
from apps.orchestration.models import Run
from apps.sources.orders.models import Order
from tests.console.conftest import SignIn, page_text

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
MODELS = [model for model, page in admin.site._registry.items() if isinstance(page, ReadOnlyAdmin)]
QUERIES: tuple[dict[str, str], ...] = (
    {"q": "Ґанна"},
    {"q": "😀"},
    {"q": "a\0b"},
    {"q": "9" * 400},
    {"q": "x" * 5_000},
    {"p": "99999999999999999999"},
    {"p": "-1"},
    {"p": "x"},
    {"o": "99.-99.x"},
    {"o": "9" * 30},
    {"id__gte": "9" * 20},
    {"id": "x"},
    {"order_id": "9" * 30},
    {"order_date__year": "99999"},
    {"created_at__year": "-1"},
    {"day__year": "99999"},
    {"day__year": "2026", "day__month": "13"},
    {"day__gte": "infinity"},
    {"kind__exact": "\0"},
    {"region__exact": "9" * 20},
    {"run__exact": "１２"},
    {"nothing__like__this": "1"},
    {"_to_field": "password"},
    {"all": ""},
)
KEYS = ("x", "9" * 20, "-" + "9" * 20, "0", "-1", "１２", "_00", "2026-13-45", "99999-01-01", "²")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_no_address_of_a_list_is_an_error(transactional_db: None, schedules: None, sign_in: SignIn, model: Any) -> None:
    client, name = sign_in(OPERATOR), f"admin:{model._meta.app_label}_{model._meta.model_name}"
    client.raise_request_exception = False
    for query in QUERIES:
        assert client.get(reverse(f"{name}_changelist"), query).status_code in (200, 302, 400, 403, 404), query
    for key in KEYS:
        assert client.get(f"{reverse(f'{name}_changelist')}{key}/change/").status_code in (200, 302, 400, 403, 404), key


@pytest.mark.parametrize("query", ["nothing=1", "created_at__gte=2026-02-30", "state__exact=queued&nothing=1"])
@pytest.mark.parametrize("suffix", ["", "csv/"])
def test_query_with_an_unknown_filter_is_not_answered_by_all_rows(schedules: None, sign_in: SignIn, query: str, suffix: str) -> None:
    address = reverse("admin:orchestration_standingreject_changelist" if suffix else "admin:orchestration_run_changelist")
    page = sign_in(VIEWER).get(f"{address}{suffix}?{query}", follow=True)
    assert (page.status_code, "This query cannot be answered" in page.content.decode()) == (400, True)


def test_page_past_the_last_row_is_not_called_empty(loaded_run: Run, sign_in: SignIn) -> None:
    text = page_text(sign_in(VIEWER), reverse("admin:orchestration_run_changelist") + "?p=9")
    assert "There are no more rows" in text and "Nothing here yet" not in text


def test_value_that_cannot_be_read_is_shown_as_stored(transactional_db: None, sign_in: SignIn) -> None:
    if connections["orders_db"].vendor != "sqlite":
        pytest.skip("MySQL's columns refuse such a value")
    shop.generate(20, 7)
    order = Order.objects.earliest("pk")
    with connections["orders_db"].cursor() as cursor:
        cursor.execute(f"UPDATE orders SET order_date = '2026-13-45 10:00:00' WHERE id = {order.pk}")
    client = sign_in(OPERATOR)
    for address in (reverse("admin:orders_db_order_changelist"), reverse("admin:orders_db_order_change", args=[order.pk])):
        assert "⚠ 2026-13-45 10:00:00" in page_text(client, address)


@pytest.mark.parametrize("value", ["infinity", "-infinity", "12026-01-01", "0044-03-15 BC"])
def test_dates_that_only_postgresql_has_are_shown_as_stored(transactional_db: None, sign_in: SignIn, value: str) -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("only PostgreSQL has such dates")
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO orchestration_paymentmismatch (kind, order_id, day, net, captured, refunded, checked_at) "
            "VALUES ('unpaid', 1, %s, 1, 0, 0, now())",
            [value],
        )
    assert f"⚠ {value}" in page_text(sign_in(OPERATOR), reverse("admin:orchestration_paymentmismatch_changelist"))


@pytest.mark.parametrize("code", [400, 403, 404, 405, 500])
def test_error_page_says_what_to_do(code: int) -> None:
    page = render_to_string(f"{code}.html")
    assert "TechMarket" in page and 'href="/admin/"' in page and "Traceback" not in page


def test_history_of_a_large_list_counts_its_entries(transactional_db: None, sign_in: SignIn) -> None:
    shop.generate(20, 7)
    for page in (admin.site._registry[model] for model in MODELS):
        paginator = page.get_paginator(None, LogEntry.objects.all(), 100)  # type: ignore[arg-type]
        assert paginator.count == 0, page


def test_forbidden_page_is_ours(transactional_db: None, sign_in: SignIn) -> None:
    answer = sign_in(VIEWER).get(reverse("admin:auth_user_changelist"))
    assert answer.status_code == 403 and b"ask an administrator" in answer.content


@pytest.mark.parametrize("lookup", ["regex", "iregex"])
@pytest.mark.parametrize("page", ["orchestration_run_changelist?reason", "auth_user_changelist?username", "audit_entry_changelist?reason"])
def test_regular_expressions_are_no_filter(transactional_db: None, page: str, lookup: str) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    name, column = page.split("?")
    assert client.get(reverse(f"admin:{name}"), {f"{column}__{lookup}": "(a+)+$"}).status_code == 400
    assert client.get(reverse(f"admin:{name}"), {f"{column}__startswith": "a"}).status_code == 200
