"""All KPIs of a period, against sums in plain Python."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.orchestration.models import Run
from apps.warehouse.dimensions import DimCategory, DimEmployee, DimProduct, DimRegion
from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import Totals, read_months, read_totals
from apps.warehouse.report import Share, build_report, find_sales_period

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
NOTHING = Decimal("0.00")


def select_facts(start: date | None = None, end: date | None = None, region: str | None = None) -> list[FactSales]:
    """Return the facts of a period and region, filtered in Python."""
    rows = FactSales.objects.select_related("date", "region", "employee", "product", "category")
    inside = [row for row in rows if (start or date.min) <= row.date.date <= (end or date.max)]
    return [row for row in inside if region in (None, row.region.code)]


def expected_shares(rows: Iterable[FactSales], of: Callable[[FactSales], Any], names: dict[Any, str], orders: bool) -> list[Share]:
    groups: dict[Any, list[FactSales]] = defaultdict(list)
    for row in rows:
        groups[of(row)].append(row)
    found = [
        Share(
            key,
            names.get(key, key),
            sum((row.net_amount for row in some), NOTHING),
            sum((row.margin_amount or NOTHING for row in some), NOTHING),
            len({row.order_id for row in some}) if orders else 0,
        )
        for key, some in groups.items()
    ]
    return sorted(found, key=lambda share: (-share.net, share.name))


def middle_period(rows: list[FactSales]) -> tuple[date, date]:
    days = sorted({row.date.date for row in rows})
    return days[len(days) // 2], days[len(days) * 3 // 4]


@pytest.mark.parametrize("narrowed", [False, True])
def test_all_kpis(loaded_run: Run, narrowed: bool) -> None:
    FactSales.objects.filter(pk__in=FactSales.objects.values("pk")[:3]).update(margin_amount=None)
    chosen = (*middle_period(select_facts()), "KV") if narrowed else (None, None, None)
    rows, found = select_facts(*chosen), build_report(*chosen)
    assert len(rows) > 0 and (len(rows) < FactSales.objects.count()) == narrowed
    assert found.totals == read_totals(*chosen) and found.months == read_months(*chosen)
    assert found.totals.net == sum(row.net_amount for row in rows)
    named = {model: {row.pk: str(row) for row in model.objects.all()} for model in (DimRegion, DimEmployee, DimProduct, DimCategory)}
    assert found.regions == expected_shares(rows, lambda row: row.region_id, named[DimRegion], True)
    assert found.employees == expected_shares(rows, lambda row: row.employee_id, named[DimEmployee], True)
    assert found.methods == expected_shares(rows, lambda row: row.payment_method, {}, True)
    assert found.products == expected_shares(rows, lambda row: row.product_id, named[DimProduct], False)[:10]
    assert found.categories == expected_shares(rows, lambda row: row.category_id, named[DimCategory], False)
    for shares in (found.regions, found.employees, found.methods, found.categories):
        assert sum(share.net for share in shares) == found.totals.net


def test_previous_period_has_the_same_length_and_ends_the_day_before(loaded_run: Run) -> None:
    start, end = middle_period(select_facts())
    length = (end - start).days + 1
    before = select_facts(start - timedelta(days=length), start - timedelta(days=1))
    assert build_report(start, end).before == read_totals(start - timedelta(days=length), start - timedelta(days=1))
    assert len({row.order_id for row in before}) == build_report(start, end).before.orders > 0  # type: ignore[union-attr]
    first, last = find_sales_period() or (date.min, date.min)
    assert (first, last) == (min(row.date.date for row in select_facts()), max(row.date.date for row in select_facts()))
    assert (
        build_report(first, last).before is None and build_report(None, end).before is None and build_report(date.min, end).before is None
    )


def test_report_without_sales(transactional_db: None) -> None:
    assert find_sales_period() is None
    found = build_report()
    assert found.totals == Totals(NOTHING, NOTHING, NOTHING, 0) and found.months == found.regions == found.products == []
