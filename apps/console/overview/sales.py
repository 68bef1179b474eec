"""The KPIs of the first page, computed once for each load."""

from datetime import date
from urllib.parse import quote

from django.core.cache import cache

from apps.warehouse.loads import Load
from apps.warehouse.report import Report, build_report, find_sales_period

A_DAY = 86_400
Sold = tuple[date, date] | None


def sold() -> Sold:
    """The first and the last business day with a sale."""
    return cache.get_or_set(f"sold:{edition()}", find_sales_period, A_DAY)


def kpis(start: date | None, end: date | None, region: str | None) -> Report:
    """The star changes only where a run publishes, with a row of `etl_load`: under its key, what is cached cannot be out of date.

    Each web process keeps its own (local memory): nothing to install, nothing to ask over a network, and no more than a scan or two
    for each process and load.
    """
    name = f"kpis:{edition()}:{start}:{end}:{quote(region or '')}"
    found: Report = cache.get(name) or build_report(start, end, region)
    cache.add(name, found, A_DAY)
    return found


def edition() -> str:
    latest = Load.objects.order_by("-published_at").values_list("run_uuid", flat=True).first()
    return str(latest)
