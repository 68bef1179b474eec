"""The overview: freshness, the last and the active run, what needs attention, and the KPIs."""

from typing import Any

import structlog
from django.http import HttpRequest
from django.utils.translation import gettext as _

from apps.console.overview import sales
from apps.console.overview.figures import Period, figures
from apps.console.overview.filters import SPANS, Filters, last_days
from apps.console.overview.headline import list_numbers
from apps.console.overview.history import draw_history
from apps.console.personal import VIEW_RAW
from apps.console.runs.actions import is_unclaimed
from apps.console.unreadable import UNREADABLE_ERRORS, is_unreadable
from apps.orchestration import clock, recent_runs
from apps.orchestration.duties import read_duties
from apps.orchestration.freshness import read_freshness
from apps.orchestration.hosts import measure_clock, wrong_clocks
from apps.orchestration.models import DayProof, Role, Verdict
from apps.orchestration.schedules import missed_runs
from apps.orchestration.verified import verified_through
from apps.warehouse.dimensions import DimRegion
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError
from techmarket.messages import translate

log = structlog.get_logger()
ACTIVE_REFRESH_S, IDLE_REFRESH_S = 2, 20


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fill the context, as unfold's DASHBOARD_CALLBACK, with what the user may view. An unreachable warehouse is shown, not raised."""
    context["title"] = _("Overview")
    if request.user.has_perm("orchestration.view_run"):
        context |= describe_ledger()
    if request.user.has_perm("dwh.view_factsales"):
        context |= describe_kpis(request)
    return context


def describe_ledger() -> dict[str, Any]:
    """Return the context of the runs, or that a row of the ledger has a value that cannot be read, such as an infinite instant."""
    try:
        return describe_now() | {"history": draw_history(recent_runs.latest_runs())}
    except UNREADABLE_ERRORS as error:
        if not is_unreadable(error):
            raise
        log.warning("the overview cannot read the ledger", exc_info=error)
        return {"is_unreadable": True}


def describe_now() -> dict[str, Any]:
    """Return the context of the part that refreshes itself."""
    measure_clock(Role.WEB)
    running, ended = recent_runs.active_run(), recent_runs.last_finished_run()
    context: dict[str, Any] = {
        "running": running,
        "unclaimed": bool(running and is_unclaimed(running.run)),
        "last": ended,
        "next_runs": recent_runs.next_runs(),
        "held": missed_runs(),
        "overdue": [duty for duty in read_duties(clock.now()) if duty.overdue],
        "wrong_clocks": wrong_clocks(),
        "rejects": recent_runs.open_rejects(),
        "verified": verified_through(),
        "different": DayProof.objects.filter(verdict=Verdict.DIFFERENT).count(),
    }
    try:
        with diagnosed("dwh"):
            fresh, edition = read_freshness(ended.run if ended else None, running.run if running else None), sales.find_edition()
    except EtlError as error:
        return context | {"unreachable": translate(error.message), "edition": "", "interval": IDLE_REFRESH_S}
    return context | {"fresh": fresh, "edition": edition, "interval": ACTIVE_REFRESH_S if running else IDLE_REFRESH_S}


def describe_kpis(request: HttpRequest) -> dict[str, Any]:
    try:
        with diagnosed("dwh"):
            return read_kpis(request)
    except EtlError as error:
        return {"unreachable": translate(error.message)}


def read_kpis(request: HttpRequest) -> dict[str, Any]:
    dates = sales.find_dates()
    form = Filters(request.GET, dates)
    spans = [(name, last_days(days, dates)) for days, name in SPANS] if dates else []
    context = {"filters": form, "spans": spans, "sales_dates": dates}
    if not form.is_valid() or not dates:
        return context
    start, end, region = (form.cleaned_data[name] or None for name in ("start", "end", "region"))
    report = sales.read_report(start, end, region)
    code = DimRegion.objects.filter(code=region).values_list("pk", flat=True).first() if region else None
    period = Period(start, end, code, region or "")
    return context | {
        "report": report,
        "numbers": list(list_numbers(report, period)),
        "figures": figures(report, period, names_people=request.user.has_perm(VIEW_RAW)),
        "facts": period.facts(),
    }
