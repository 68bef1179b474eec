"""Run now: the form with mode and window, the preview of changes, and the run. Workers execute both."""

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

from apps.console.runs.actions import (
    PREVIEW_STARTED,
    STARTED,
    ActionResult,
    ReasonForm,
    RunActionsAdmin,
    describe_start,
    is_unclaimed,
    run_address,
    show_result,
    url_name,
)
from apps.console.runs.page import build_page
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import rerun, start_run
from apps.orchestration.window import EARLIEST, Window, parse_day
from techmarket.errors import EtlError, Usage
from techmarket.messages import translate

START_PERMISSION = "orchestration.start_run"
REREAD = "reread"
MODE_CHOICES = (
    (Mode.INCREMENTAL, gettext_lazy("Incremental: changes since the last load, or on the days below")),
    (Mode.FULL, gettext_lazy("Full: compare everything with the sources, read what differs")),
    (REREAD, gettext_lazy("Full, reread: read everything, also where nothing differs")),
)


class DayField(forms.CharField):
    """A day of the shop's calendar as `run_etl` takes it: YYYY-MM-DD, which a browser's date input sends."""

    widget = UnfoldAdminTextInputWidget(attrs={"type": "date", "min": EARLIEST.isoformat()})

    def clean(self, value: Any) -> date | None:
        text = super().clean(value)
        try:
            return parse_day(text) if text else None
        except Usage as error:
            raise forms.ValidationError(str(error)) from None


class StartForm(ReasonForm):
    """The options of `run_etl`, validated by the same rules."""

    mode = forms.ChoiceField(label=gettext_lazy("Mode"), choices=MODE_CHOICES, widget=UnfoldAdminSelectWidget)
    start_date = DayField(label=gettext_lazy("Changes from"), required=False)
    end_date = DayField(label=gettext_lazy("To (inclusive)"), required=False)
    field_order = ("mode", "start_date", "end_date", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                cleaned["window"] = Window.from_options(first=cleaned["start_date"], last=cleaned["end_date"])
                cleaned["reread"] = cleaned["mode"] == REREAD
                cleaned["mode"] = Mode.FULL if cleaned["reread"] else cleaned["mode"]
                cleaned["window"].check_mode(cleaned["mode"])
            except Usage as error:
                raise forms.ValidationError(str(error)) from None
        return cleaned


class StartRunAdmin(RunActionsAdmin):
    """Adds Run now to the list, and the preview of a dry run."""

    actions_list: Any = ("start",)

    def get_urls(self) -> list[Any]:
        preview = self.admin_site.admin_view(self.preview)
        return [path("<int:number>/preview/", preview, name=url_name("preview")), *super().get_urls()]

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(START_PERMISSION)

    @action(description=gettext_lazy("Run now"), url_path="start", icon="play_arrow", variant=ActionVariant.PRIMARY, permissions=["start"])
    def start(self, request: HttpRequest) -> HttpResponse:
        self.require_permission(request, START_PERMISSION)
        form = StartForm(request.POST) if request.method == "POST" else StartForm(initial={"mode": Mode.INCREMENTAL} | request.GET.dict())
        if form.is_bound and form.is_valid():
            return self.start_from_form(request, form.cleaned_data, dry_run="preview" in request.POST)
        return self.render_page(
            request, "console/runs/start.html", {"title": _("Run now"), "form": form, "back": run_address("changelist")}
        )

    def start_from_form(self, request: HttpRequest, options: dict[str, Any], dry_run: bool) -> HttpResponse:
        person = request.user.get_username()
        chosen = {name: options[name] for name in ("mode", "window", "reason", "reread")}
        try:
            run = start_run(trigger=Trigger.ADMIN, requested_by=person, dry_run=dry_run, queue=True, **chosen)
        except EtlError as error:
            messages.error(request, translate(error.message))
            return redirect(run_address("start"))
        return self.redirect_to_started(request, run, PREVIEW_STARTED if dry_run else STARTED)

    def redirect_to_started(self, request: HttpRequest, run: Run, entry: str) -> HttpResponse:
        self.add_history_entry(request, run, entry, run.reason)
        show_result(request, result := describe_start(run))
        page = "preview" if run.dry_run and run.is_active else "change"
        return redirect(run_address(page, result.row.pk))

    # --- The preview of a dry run, and the run that follows it ---

    def preview(self, request: HttpRequest, number: int) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = get_object_or_404(Run, pk=number, dry_run=True)
        form = ReasonForm(request.POST if request.method == "POST" else None, initial={"reason": run.reason})
        if request.method == "POST":
            self.require_permission(request, START_PERMISSION)
            if form.is_valid():
                return self.publish(request, run, form.cleaned_data["reason"])
        possible = run.state == State.SUCCEEDED and request.user.has_perm(START_PERMISSION)
        context = {"title": _("Preview of changes"), "run": run, "form": form, "possible": possible, "back": run_address("changelist")}
        return self.render_page(
            request, "console/runs/preview.html", context | {"page": build_page(run, request.user), "unclaimed": is_unclaimed(run)}
        )

    def publish(self, request: HttpRequest, run: Run, reason: str) -> HttpResponse:
        if run.state != State.SUCCEEDED:
            messages.error(request, _("The preview has not succeeded. Start a new preview."))
            return redirect(run_address("preview", run.pk))
        try:
            published = rerun(run, request.user.get_username(), Trigger.ADMIN, reason, queue=True, publish=True)
        except EtlError as error:
            show_result(request, ActionResult(run, translate(error.message), messages.ERROR))
            return redirect(run_address("preview", run.pk))
        return self.redirect_to_started(request, published, STARTED)
