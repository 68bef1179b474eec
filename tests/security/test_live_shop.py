"""The pages of the sources ask a live shop for little: by an index, one page at a time, counting nothing."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.urls import reverse

from apps.console.groups import OPERATOR
from apps.console.sources import MAX_LISTED_ROWS, SourceAdmin
from apps.demo import shop
from apps.sources.orders.models import Customer, Order
from tests.console.conftest import SignIn
from tests.security.crawl import list_addresses_of, list_lookups

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.filterwarnings("ignore:Pagination may yield inconsistent results"),  # of Django's autocompletion
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),  # of Django's filters of dates
]
PAGES = {model: page for model, page in admin.site._registry.items() if isinstance(page, SourceAdmin)}
# Bounded: a page of a list or the rows that it names by their keys.
BY_KEY = re.compile(r"WHERE [`\"\w.(]+\bid[`\"]?\)? (= \S+|IN \()")
LIMIT = "/*M! SET STATEMENT max_statement_time=5 FOR */ "  # techmarket/statement_limits.py
SCANS = re.compile(r"LIKE ('%|BINARY)|REGEXP|\bCOUNT\(|\bOFFSET \d{5}", re.IGNORECASE)


@contextmanager
def statements_at(alias: str) -> Iterator[list[str]]:
    """Yield a list that gets what this session has executed: by MariaDB's own log, which one test at a time uses, on files by Django."""
    found: list[str] = []
    if connections[alias].vendor == "sqlite":
        with connections[alias].execute_wrapper(lambda execute, sql, *args: (found.append(sql), execute(sql, *args))[1]):
            yield found
        return
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('techmarket_general_log', 600), CONNECTION_ID()")
        session = cursor.fetchone()[1]
        cursor.execute("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON")
        cursor.execute("TRUNCATE mysql.general_log")
        try:
            yield found
        finally:
            cursor.execute("SET GLOBAL general_log = OFF")
            query = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query' AND thread_id = %s"
            cursor.execute(query, [session])
            found += [row[0] for row in cursor.fetchall() if "general_log" not in row[0]]
            cursor.execute("SELECT RELEASE_LOCK('techmarket_general_log')")


def is_bounded(sql: str) -> bool:
    return not SCANS.search(sql) and bool(re.search(r"LIMIT \d+", sql) or BY_KEY.search(sql))


def has_index_for_order(alias: str, sql: str) -> bool:
    """Return True if the database sorts nothing but what a condition on an index has found."""
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}" if "%s" not in sql else "SELECT 1, 2, 3, ''")
            plan = [row[3] for row in cursor.fetchall()]
            return not any("TEMP B-TREE FOR ORDER" in step for step in plan) or any("SEARCH" in step for step in plan)
        cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {sql.removeprefix(LIMIT)}")
        columns = [each[0] for each in cursor.description]
        steps = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        return not any(step["type"] == "ALL" and "filesort" in (step["Extra"] or "") for step in steps)


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_no_page_of_a_source_reads_a_whole_table(transactional_db: None, model: Any) -> None:
    shop.generate(300, 7)
    client, alias = Client(raise_request_exception=False), model._meta.app_label
    client.force_login(User.objects.create_superuser("root"))
    with statements_at(alias) as statements:
        for address in [*list_addresses_of(model, "a"), *list_addresses_of(model, "1"), *list_lookups(model, "1")]:
            assert client.get(address).status_code in (200, 302, 400, 403, 404), address
    executed = {sql for sql in statements if sql.lstrip().upper().startswith(("SELECT", "/*M! SET STATEMENT")) and " FROM " in sql}
    assert len(executed) > 3
    assert not [sql for sql in executed if not is_bounded(sql)]
    assert not [sql for sql in executed if not has_index_for_order(alias, sql)]


def test_source_is_searched_by_ids_and_the_start_of_indexed_texts(sign_in: SignIn) -> None:
    shop.generate(50, 7)
    customer, client, page = Customer.objects.earliest("pk"), sign_in(OPERATOR), reverse("admin:orders_db_customer_changelist")

    def find(term: str) -> list[int]:
        return [row.pk for row in client.get(page, {"q": term}).context["cl"].result_list]

    assert find(customer.email) == [customer.pk] == find(f" {customer.email[:-4]} ") and customer.pk in find(str(customer.pk))
    assert find(customer.email[1:]) == [] == find(customer.last_name)
    assert customer.pk not in find(str(customer.region_id)) or customer.pk == customer.region_id
    assert find("9" * 30) == [] == find("%")


@pytest.mark.parametrize("query", ["status__startswith=p", "total_amount__gte=1", "order_date__year=2026", "updated_at__date=2026-01-01"])
def test_columns_without_an_index_are_no_filter(sign_in: SignIn, query: str) -> None:
    client = sign_in(OPERATOR)
    assert client.get(f"{reverse('admin:orders_db_order_changelist')}?{query}").status_code == 400


@pytest.mark.parametrize("query", ["status__exact=paid", "updated_at__gte=2026-01-01", "customer__id__exact=1", "region_id=1"])
def test_columns_with_an_index_or_choices_are_filters(sign_in: SignIn, query: str) -> None:
    client = sign_in(OPERATOR)
    assert client.get(f"{reverse('admin:orders_db_order_changelist')}?{query}").status_code == 200


def test_no_page_skips_many_rows(sign_in: SignIn) -> None:
    client, page = sign_in(OPERATOR), reverse("admin:orders_db_order_changelist")
    last = MAX_LISTED_ROWS // PAGES[Order].list_per_page
    assert client.get(page, {"p": str(last)}).status_code == 200
    assert client.get(page, {"p": str(last + 1)}).status_code == 400


def test_no_list_is_sorted_by_a_column_that_its_headers_do_not_offer(sign_in: SignIn) -> None:
    client = sign_in(OPERATOR)
    for name in ("orders_db_order", "orchestration_reject", "orchestration_standingreject"):
        for number in range(1, 8):
            ordering = client.get(reverse(f"admin:{name}_changelist"), {"o": str(number)}).context["cl"].queryset.query.order_by
            assert len(ordering) == 1 and ordering[0].lstrip("-") in ("pk", "id"), (name, number)


def test_every_page_of_a_source_is_held_to_it() -> None:
    assert {model._meta.app_label for model in PAGES} == set(settings.SOURCES)
    assert all(isinstance(page, SourceAdmin) for model, page in admin.site._registry.items() if model._meta.app_label in settings.SOURCES)
