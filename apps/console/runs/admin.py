"""Runs: the list, and the page of each."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from apps.console.readonly import ReadOnlyAdmin
from apps.console.runs.page import COLOURS, duration, page
from apps.console.runs.start import Starting
from apps.orchestration.models import Run
from apps.orchestration.tally import Tally, tallies
from apps.orchestration.window import describe_window
from techmarket.amounts import clock, lasting, whole
from techmarket.messages import translate

NOTHING = "–"
BARE = "console/runs/page/bare.html"
CAUSE = 80  # letters of it in the list


@admin.register(Run)
class RunAdmin(Starting, ReadOnlyAdmin):
    """Years of runs: none of the pages counts them, and what runs did is asked for all of a page at once."""

    paginator = InfinitePaginator
    list_disable_select_all = True
    show_facets = admin.ShowFacets.NEVER
    list_display = ("number", "coloured_state", "wanted", "asked", "started", "lasted", "written", "rejected", "checks", "told")
    list_filter = ("state", "mode", "trigger", "dry_run", "created_at")
    search_fields = ("=id", "requested_by", "cause", "reason")
    date_hierarchy = "created_at"
    fields = ()  # the page is a template of its own

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        shown = super().get_changelist_instance(request)
        counted = tallies(shown.result_list)
        for run in shown.result_list:
            run.tally = counted[run.pk]
        return shown

    def get_urls(self) -> list[Any]:
        now = path("<int:number>/now/", never_cache(require_GET(self.now)), name="orchestration_run_now")
        return [now, *super().get_urls()]

    def now(self, request: HttpRequest, number: int) -> HttpResponse:
        """The page again, without what is around it. Once the session has ended, the whole page is due."""
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request)):
            return HttpResponse(status=403, headers={"HX-Refresh": "true"})
        return self.changeform_view(request, str(number), extra_context={"base": BARE, "again": True})

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        """`moved`: the run's state is another than the page that asks has seen."""
        run = context["original"]
        context |= {"page": page(run, request.user), "moved": request.GET.get("seen", run.state) != run.state}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    @display(description=_("number"), ordering="id")
    def number(self, run: Run) -> int:
        return run.pk

    @display(description=_("mode and window"), ordering="mode", header=True)
    def wanted(self, run: Run) -> Any:
        mode = _("%(mode)s, dry run") % {"mode": run.get_mode_display()} if run.dry_run else run.get_mode_display()
        return mode, describe_window(run.mode, run.window_start, run.window_end)

    @display(description=_("asked by"), ordering="requested_by", header=True)
    def asked(self, run: Run) -> Any:
        return run.requested_by, run.get_trigger_display()

    @display(description=_("state"), ordering="state", label=COLOURS)
    def coloured_state(self, run: Run) -> Any:
        return run.state, run.get_state_display()

    @display(description=_("started"), ordering="started_at")
    def started(self, run: Run) -> str:
        return clock(run.started_at) if run.started_at else NOTHING

    @display(description=_("duration"))
    def lasted(self, run: Run) -> str:
        return lasting(duration(run)) if run.started_at else NOTHING

    @display(description=_("written"))
    def written(self, run: Run) -> str:
        return whole(tally(run).written) if tally(run).counted else NOTHING

    @display(description=_("rejected"))
    def rejected(self, run: Run) -> str:
        return whole(tally(run).rejected) if tally(run).counted else NOTHING

    @display(description=_("checks"))
    def checks(self, run: Run) -> str:
        passed, of = tally(run).passed, tally(run).checks
        return _("%(passed)s of %(checks)s") % {"passed": whole(passed), "checks": whole(of)} if of else NOTHING

    @display(description=_("cause"))
    def told(self, run: Run) -> str:
        cause = translate(run.cause)
        return cause if len(cause) <= CAUSE else cause[:CAUSE] + "…"


def tally(run: Run) -> Tally:
    """As the list has put it on the run."""
    counted: Tally = getattr(run, "tally", Tally())
    return counted
