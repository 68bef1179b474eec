"""What Metabase's questions answer on the real PostgreSQL, against the dashboard page's numbers."""

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
from tests.bi.metabase import rendered
from tests.console.conftest import star  # noqa: F401  fixture
from tests.console.test_report import lines
from tests.orchestration.conftest import schedules  # noqa: F401  fixture

pytestmark = [
    pytest.mark.skipif(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="PostgreSQL's SQL: `make test` runs it there"),
    pytest.mark.django_db(transaction=True, databases="__all__"),
]
Rows = list[tuple[Any, ...]]
NOTHING = Decimal("0.00")


def answers(**filters: Any) -> dict[str, Rows]:
    """Every question, asked with these values."""
    found = {}
    for question in questions():
        with connections["dwh"].cursor() as cursor:
            cursor.execute(*rendered(question.sql, filters))
            assert [column.name for column in cursor.description] == list(question.columns), question.slug
            found[question.slug] = cursor.fetchall()
    return found


def scopes() -> Iterator[tuple[dict[str, Any], tuple[date | None, date | None, str | None]]]:
    """Metabase's filters, and the page's. The last one has no sale in it."""
    first, last = find_sales_period() or (date.min, date.max)
    middle = first + (last - first) / 2
    yield {}, (None, None, None)
    yield {START: middle.isoformat()}, (middle, None, None)
    yield {END: middle.isoformat()}, (None, middle, None)
    yield {START: middle, END: last, REGION: "Львівська"}, (middle, last, "LV")
    yield {REGION: "Одеська"}, (None, None, "OD")
    yield {START: date(2015, 1, 1), END: date(2015, 1, 1)}, (date(2015, 1, 1), date(2015, 1, 1), None)


def by_orders(shares: list[Share]) -> Rows:
    return sorted((share.name, share.net, share.orders, share.average_order) for share in shares)


def by_margin(shares: list[Share]) -> Rows:
    return sorted((share.name, share.net, share.margin) for share in shares)


def test_every_answer_is_the_page_s_number(star: Run) -> None:  # noqa: F811
    FactSales.objects.filter(pk=FactSales.objects.earliest("pk").pk).update(margin_amount=None, cost_amount=None)
    for filters, scope in scopes():
        said, page = answers(**filters), build_report(*scope)
        totals = page.totals
        assert {slug: said[slug] for slug in ("revenue", "orders", "average_order", "margin_percent", "paid_percent")} == {
            "revenue": [(totals.net,)],
            "orders": [(totals.orders,)],
            "average_order": [(totals.average_order,)],
            "margin_percent": [(totals.margin_percent,)],
            "paid_percent": [(totals.paid_percent,)],
        }
        assert [(month, net, margin, orders) for month, net, _, _, margin, orders in said["by_month"]] == [
            (date(month.year, month.month, 1), month.net, month.margin, month.orders) for month in page.months
        ]
        facts = lines(*scope)
        assert sum((row[2] for row in said["by_month"]), NOTHING) == sum((fact.gross_amount for fact in facts), NOTHING)
        assert sum((row[3] for row in said["by_month"]), NOTHING) == sum((fact.discount_amount for fact in facts), NOTHING)
        assert sorted(said["by_region"]) == by_orders(page.regions)
        assert sorted(said["by_method"]) == by_orders(page.methods)
        assert sorted(said["by_manager"]) == by_orders(page.employees)
        assert sorted(said["by_product"]) == by_margin(page.products)
        assert sorted(said["by_category"]) == by_margin(page.categories)
        for slug in ("by_region", "by_method", "by_manager", "by_product", "by_category"):
            assert [row[1] for row in said[slug]] == sorted((row[1] for row in said[slug]), reverse=True), "largest first"
        assert bool(facts) == bool(said["by_month"])


def test_data_as_of_is_the_high_water_mark_on_the_shop_s_clock(star: Run) -> None:  # noqa: F811
    mark = read_high_water_mark()
    assert mark and mark.tzinfo
    assert answers()["data_as_of"] == [(mark.astimezone(ZoneInfo("Europe/Kyiv")).replace(tzinfo=None),)]


def test_the_regions_to_choose_from(star: Run) -> None:  # noqa: F811
    names = [name for (name,) in answers()["regions"]]
    assert sorted(names) == sorted(["Київська", "Львівська", "Одеська", "Харківська", "Дніпропетровська"])
