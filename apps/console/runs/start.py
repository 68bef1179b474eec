"""Run now: a form with mode and window, a preview of what would change, and the run itself. The workers carry out both."""

from datetime import date
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.console.runs.actions import PREVIEWED, STARTED, Buttons, Outcome, Why, address, asked, page, tell, unclaimed
from apps.console.runs.page import page as run_page
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import rerun, start_run
from apps.orchestration.window import EARLIEST, Window, parse_day
from techmarket.errors import EtlError, Usage

START = "orchestration.start_run"
MODES = (
    (Mode.INCREMENTAL, gettext_lazy("incremental: what changed since the last run, or in the days below")),
    (Mode.FULL, gettext_lazy("full: everything")),
)


class Day(forms.CharField):
    """A business day as `run_etl` takes it: YYYY-MM-DD, which is what the browser's calendar sends."""

    widget = UnfoldAdminTextInputWidget(attrs={"type": "date", "min": EARLIEST.isoformat()})

    def clean(self, value: Any) -> date | None:
        words = super().clean(value)
        try:
            return parse_day(words) if words else None
        except Usage as error:
            raise forms.ValidationError(str(error)) from None


class Wanted(Why):
    """What `run_etl` takes as options, by its rules."""

    mode = forms.ChoiceField(label=gettext_lazy("Mode"), choices=MODES, widget=UnfoldAdminSelectWidget)
    start_date = Day(label=gettext_lazy("Changes from"), required=False)
    end_date = Day(label=gettext_lazy("to, included"), required=False)
    field_order = ("mode", "start_date", "end_date", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                cleaned["window"] = Window.from_options(first=cleaned["start_date"], last=cleaned["end_date"])
                cleaned["window"].check_mode(cleaned["mode"])
            except Usage as error:
                raise forms.ValidationError(str(error)) from None
        return cleaned


class Starting(Buttons):
    """For the admin of runs: beside the buttons of a run, the one that starts a new one."""

    actions_list: Any = ("start",)

    def get_urls(self) -> list[Any]:
        preview = self.admin_site.admin_view(self.preview)
        return [path("<int:number>/preview/", preview, name=page("preview")), *super().get_urls()]

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(START)

    @action(description=gettext_lazy("Run now"), url_path="start", icon="play_arrow", variant=ActionVariant.PRIMARY, permissions=["start"])
    def start(self, request: HttpRequest) -> HttpResponse:
        self.allow(request, START)
        form = Wanted(request.POST) if request.method == "POST" else Wanted(initial={"mode": Mode.INCREMENTAL} | request.GET.dict())
        if form.is_bound and form.is_valid():
            return self.begin(request, form.cleaned_data, dry_run="preview" in request.POST)
        return self.asking(request, "console/runs/start.html", {"title": _("Run now"), "form": form, "back": address("changelist")})

    def begin(self, request: HttpRequest, wanted: dict[str, Any], dry_run: bool) -> HttpResponse:
        person, window, reason = request.user.get_username(), wanted["window"], wanted["reason"]
        try:
            run = start_run(wanted["mode"], Trigger.ADMIN, person, window, dry_run=dry_run, reason=reason, queue=True)
        except EtlError as error:
            messages.error(request, str(error))
            return redirect(address("start"))
        return self.began(request, run, PREVIEWED if dry_run else STARTED)

    def began(self, request: HttpRequest, run: Run, noted: str) -> HttpResponse:
        self.note(request, run, noted, run.reason)
        tell(request, outcome := asked(run))
        shown = "preview" if run.dry_run and run.is_active else "change"
        return redirect(address(shown, outcome.row.pk))

    # --- What a dry run says, and the run that does it ---

    def preview(self, request: HttpRequest, number: int) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = get_object_or_404(Run, pk=number, dry_run=True)
        form = Why(request.POST if request.method == "POST" else None, initial={"reason": run.reason})
        if request.method == "POST":
            self.allow(request, START)
            if form.is_valid():
                return self.publish(request, run, form.cleaned_data["reason"])
        possible = run.state == State.SUCCEEDED and request.user.has_perm(START)
        context = {"title": _("What would change"), "run": run, "form": form, "possible": possible, "back": address("changelist")}
        return self.asking(
            request, "console/runs/preview.html", context | {"page": run_page(run, request.user), "unclaimed": unclaimed(run)}
        )

    def publish(self, request: HttpRequest, run: Run, reason: str) -> HttpResponse:
        if run.state != State.SUCCEEDED:
            messages.error(request, _("The preview has not succeeded: there is nothing to go by."))
            return redirect(address("preview", run.pk))
        try:
            real = rerun(run, request.user.get_username(), Trigger.ADMIN, reason, queue=True, publish=True)
        except EtlError as error:
            tell(request, Outcome(run, str(error), messages.ERROR))
            return redirect(address("preview", run.pk))
        return self.began(request, real, STARTED)
