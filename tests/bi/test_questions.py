"""Results of Metabase's questions on PostgreSQL, compared with the overview's figures."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import connections

from apps.bi.questions import END, REGION, START, questions
from apps.orchestration.models import Run
from apps.warehouse.facts import FactSales
from apps.warehouse.loads import read_high_water_mark
from apps.warehouse.report import Share, build_report, find_sales_period
from tests.bi.metabase import render_query
from tests.console.conftest import loaded_run  # noqa: F401  fixture
from tests.console.test_report import select_facts
from tests.orchestration.conftest import schedules  # noqa: F401  fixture

pytestmark = [
    pytest.mark.skipif(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="PostgreSQL's SQL: `make test` runs it there"),
    pytest.mark.django_db(transaction=True, databases="__all__"),
]
Rows = list[tuple[Any, ...]]
ZERO = Decimal("0.00")


def run_questions(**filters: Any) -> dict[str, Rows]:
    """Return the rows of every question with these filters."""
    results = {}
    for question in questions():
        with connections["dwh"].cursor() as cursor:
            cursor.execute(*render_query(question.sql, filters))
            assert [column.name for column in cursor.description] == list(question.columns), question.slug
            results[question.slug] = cursor.fetchall()
    return results


def iterate_filters() -> Iterator[tuple[dict[str, Any], tuple[date | None, date | None, str | None]]]:
    """Yield pairs of Metabase's filters and the page's. The last pair selects no sale."""
    first, last = find_sales_period() or (date.min, date.max)
    middle = first + (last - first) / 2
    yield {}, (None, None, None)
    yield {START: middle.isoformat()}, (middle, None, None)
    yield {END: middle.isoformat()}, (None, middle, None)
    yield {START: middle, END: last, REGION: "Львівська"}, (middle, last, "LV")
    yield {REGION: "Одеська"}, (None, None, "OD")
    yield {START: date(2015, 1, 1), END: date(2015, 1, 1)}, (date(2015, 1, 1), date(2015, 1, 1), None)


def list_orders_shares(shares: list[Share]) -> Rows:
    return sorted((share.name, share.net, share.orders, share.average_order) for share in shares)


def list_margin_shares(shares: list[Share]) -> Rows:
    return sorted((share.name, share.net, share.margin) for share in shares)


def test_questions_equal_the_page(loaded_run: Run) -> None:  # noqa: F811
    FactSales.objects.filter(pk=FactSales.objects.earliest("pk").pk).update(margin_amount=None, cost_amount=None)
    for filters, scope in iterate_filters():
        results, page = run_questions(**filters), build_report(*scope)
        totals = page.totals
        assert {
            slug: results[slug]
            for slug in ("revenue", "orders", "average_order", "margin_percent", "paid_percent", "outstanding", "overpaid")
        } == {
            "revenue": [(totals.net,)],
            "orders": [(totals.orders,)],
            "average_order": [(totals.average_order,)],
            "margin_percent": [(totals.margin_percent,)],
            "paid_percent": [(page.paid_percent,)],
            "outstanding": [(page.balances.outstanding,)],
            "overpaid": [(page.balances.overpaid,)],
        }
        assert [(month, net, margin, orders) for month, net, _, _, margin, orders in results["by_month"]] == [
            (date(month.year, month.month, 1), month.net, month.margin, month.orders) for month in page.months
        ]
        facts = select_facts(*scope)
        assert sum((row[2] for row in results["by_month"]), ZERO) == sum((fact.gross_amount for fact in facts), ZERO)
        assert sum((row[3] for row in results["by_month"]), ZERO) == sum((fact.discount_amount for fact in facts), ZERO)
        assert sorted(results["by_region"]) == list_orders_shares(page.regions)
        assert sorted(results["by_method"]) == list_orders_shares(page.methods)
        assert sorted(results["by_manager"]) == list_orders_shares(page.employees)
        assert sorted(results["by_product"]) == list_margin_shares(page.products)
        assert sorted(results["by_category"]) == list_margin_shares(page.categories)
        for slug in ("by_region", "by_method", "by_manager", "by_product", "by_category"):
            assert [row[1] for row in results[slug]] == sorted((row[1] for row in results[slug]), reverse=True), "largest first"
        assert bool(facts) == bool(results["by_month"])


def test_data_as_of_is_the_high_water_mark_in_the_shops_time_zone(loaded_run: Run) -> None:  # noqa: F811
    mark = read_high_water_mark()
    assert mark and mark.tzinfo
    assert run_questions()["data_as_of"] == [(mark.astimezone(ZoneInfo("Europe/Kyiv")).replace(tzinfo=None),)]


def test_regions_of_the_filter(loaded_run: Run) -> None:  # noqa: F811
    names = [name for (name,) in run_questions()["regions"]]
    assert sorted(names) == sorted(["Київська", "Львівська", "Одеська", "Харківська", "Дніпропетровська"])
