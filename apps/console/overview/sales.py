"""The KPIs of the overview, computed once for each load."""

from datetime import date
from urllib.parse import quote

from django.core.cache import cache

from apps.warehouse.loads import Load
from apps.warehouse.report import Report, build_report, find_sales_period

CACHE_S = 86_400
SalesDates = tuple[date, date] | None


def find_dates() -> SalesDates:
    """Return the first and the last day with a sale, of the shop's calendar."""
    return cache.get_or_set(f"sales-dates:{find_edition()}", find_sales_period, CACHE_S)


def read_report(start: date | None, end: date | None, region: str | None) -> Report:
    """Return the report, cached under the latest load.

    The warehouse changes only when a run publishes, which adds a row to etl_load, so the cached report is never stale. Each web process
    has a cache of its own in memory: at most two scans for each process and load.
    """
    name = f"kpis:{find_edition()}:{start}:{end}:{quote(region or '')}"
    found: Report = cache.get(name) or build_report(start, end, region)
    cache.add(name, found, CACHE_S)
    return found


def find_edition() -> str:
    """Return the UUID of the run that published last."""
    latest = Load.objects.order_by("-sequence").values_list("run_uuid", flat=True).first()
    return str(latest)
