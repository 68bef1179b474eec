"""The list of runs and the page of each."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from apps.console.readonly import ReadOnlyAdmin
from apps.console.runs.page import COLOURS, build_page, measure_duration
from apps.console.runs.search import find_by_cause
from apps.console.runs.start_form import StartRunAdmin
from apps.orchestration.models import Run
from apps.orchestration.tally import Tally, tallies
from apps.orchestration.window import describe_window
from techmarket.formats import localize_count, localize_duration, localize_time, shorten
from techmarket.messages import translate

NOTHING = "–"
PARTIAL = "console/runs/page/partial.html"
MAX_CAUSE_LENGTH = 80  # in the list


@admin.register(Run)
class RunAdmin(StartRunAdmin, ReadOnlyAdmin):
    """Never counts the runs, of which there may be years, and queries the totals of a whole page of the list at once."""

    paginator = InfinitePaginator
    list_disable_select_all = True
    show_facets = admin.ShowFacets.NEVER
    list_display = (
        "number",
        "coloured_state",
        "mode_and_window",
        "requested",
        "started",
        "duration",
        "rows_written",
        "rows_rejected",
        "checks",
        "short_cause",
    )
    list_filter = ("state", "mode", "trigger", "dry_run", "created_at")
    search_fields = ("=id", "requested_by", "reason")
    search_help_text = _("Run number, who requested it, reason or cause")
    empty_text = _("Runs appear here once somebody starts one or a schedule is due. Use Run now to start the first.")
    date_hierarchy = "created_at"
    fields = ()  # the page has a template of its own

    def get_search_results(self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str) -> tuple["QuerySet[Any]", bool]:
        """Search also the causes, as the page shows them and in English."""
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if causes := find_by_cause(search_term):
            found = queryset.filter(Q(pk__in=found.values("pk")) | causes)
        return found, duplicates

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        counted = tallies(changelist.result_list)
        for run in changelist.result_list:
            run.tally = counted[run.pk]
        return changelist

    def get_urls(self) -> list[Any]:
        refresh = path("<int:number>/now/", never_cache(require_GET(self.refresh)), name="orchestration_run_now")
        return [refresh, *super().get_urls()]

    def refresh(self, request: HttpRequest, number: int) -> HttpResponse:
        """Return the page's contents alone, for htmx. Once the session has ended, let it load the whole page."""
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request)):
            return HttpResponse(status=403, headers={"HX-Refresh": "true"})
        response: HttpResponse = self.changeform_view(request, str(number), extra_context={"base": PARTIAL, "is_refresh": True})
        return response

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        """Add the page's contents; `state_changed` where the browser's page still shows another state of the run."""
        run = context["original"]
        context |= {"page": build_page(run, request.user), "state_changed": request.GET.get("seen", run.state) != run.state}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    @display(description=_("number"), ordering="id")
    def number(self, run: Run) -> int:
        return run.pk

    @display(description=_("mode and window"), ordering="mode", header=True)
    def mode_and_window(self, run: Run) -> Any:
        mode = _("%(mode)s, dry run") % {"mode": run.get_mode_display()} if run.dry_run else run.get_mode_display()
        return mode, describe_window(run.mode, run.window_start, run.window_end)

    @display(description=_("requested by"), ordering="requested_by", header=True)
    def requested(self, run: Run) -> Any:
        return run.requested_by, run.get_trigger_display()

    @display(description=_("state"), ordering="state", label=COLOURS)
    def coloured_state(self, run: Run) -> Any:
        return run.state, run.get_state_display()

    @display(description=_("started"), ordering="started_at")
    def started(self, run: Run) -> str:
        return localize_time(run.started_at) if run.started_at else NOTHING

    @display(description=_("duration"))
    def duration(self, run: Run) -> str:
        return localize_duration(measure_duration(run)) if run.started_at else NOTHING

    @display(description=_("rows written"))
    def rows_written(self, run: Run) -> str:
        return localize_count(find_tally(run).written) if find_tally(run).counted else NOTHING

    @display(description=_("rejected"), header=True)
    def rows_rejected(self, run: Run) -> Any:
        tally = find_tally(run)
        unbroken = tally.rejected_worth.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
        return (localize_count(tally.rejected), unbroken) if tally.counted else (NOTHING, "")

    @display(description=_("checks"))
    def checks(self, run: Run) -> str:
        passed, total = find_tally(run).passed, find_tally(run).checks
        return _("%(passed)s of %(checks)s") % {"passed": localize_count(passed), "checks": localize_count(total)} if total else NOTHING

    @display(description=_("cause"))
    def short_cause(self, run: Run) -> str:
        return shorten(translate(run.cause), MAX_CAUSE_LENGTH)


def find_tally(run: Run) -> Tally:
    """Return the totals that get_changelist_instance has set on the run."""
    tally: Tally = getattr(run, "tally", Tally())
    return tally
