"""The admin's first page: is the warehouse right and fresh, what happens now, and what the star says."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from apps.console.overview import sales
from apps.console.overview.figures import Period, figures
from apps.console.overview.filters import SPANS, Filters, last
from apps.console.overview.headline import numbers
from apps.console.overview.history import history
from apps.orchestration import recent_runs
from apps.orchestration.freshness import read_freshness
from apps.warehouse.dimensions import DimRegion
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

BUSY, IDLE = 2, 20  # seconds between two looks at the ledger


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK. Who may not see runs or facts has a page without them; a warehouse that is away is said, not raised."""
    context["title"] = _("First page")
    if request.user.has_perm("orchestration.view_run"):
        context |= now() | {"history": history(recent_runs.latest_runs())}
    if request.user.has_perm("dwh.view_factsales"):
        context |= kpis(request)
    return context


def now() -> dict[str, Any]:
    """What may be otherwise in a moment: the part of the page that is asked for again and again."""
    running, ended = recent_runs.active_run(), recent_runs.last_finished_run()
    rejects, full = recent_runs.rejects_since_last_full()
    context = {"running": running, "last": ended, "due": recent_runs.next_runs(), "rejects": rejects, "full": full}
    try:
        with diagnosed("dwh"):
            fresh, edition = read_freshness(ended.run if ended else None, running.run if running else None), sales.edition()
    except EtlError as error:
        return context | {"away": str(error), "edition": "", "every": IDLE}
    return context | {"fresh": fresh, "edition": edition, "every": BUSY if running else IDLE}


def kpis(request: HttpRequest) -> dict[str, Any]:
    try:
        with diagnosed("dwh"):
            return asked(request)
    except EtlError as error:
        return {"away": str(error)}


def asked(request: HttpRequest) -> dict[str, Any]:
    sold = sales.sold()
    form = Filters(request.GET, sold)
    spans = [(name, last(days, sold)) for days, name in SPANS] if sold else []
    context = {"filters": form, "spans": spans, "sold": sold}
    if not form.is_valid() or not sold:
        return context
    start, end, region = (form.cleaned_data[name] or None for name in ("start", "end", "region"))
    report = sales.kpis(start, end, region)
    code = DimRegion.objects.filter(code=region).values_list("pk", flat=True).first() if region else None
    period = Period(start, end, code)
    return context | {"report": report, "numbers": list(numbers(report)), "figures": figures(report, period), "facts": period.facts()}
