"""The actions on runs: rerun, resume, accept and cancel. A GET asks for confirmation and a reason, only a POST acts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext_lazy
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.console.templatetags.run_messages import MESSAGE_TAG
from apps.orchestration import clock
from apps.orchestration.models import Run, State, Trigger
from apps.orchestration.requests import UNCLAIMED_AFTER_S, CannotResume, cancel_run, check_resumable, rerun, resume_run
from techmarket.errors import EtlError
from techmarket.messages import translate

MAX_RUNS = 50  # per action: a page of the list
MAX_REASON_LENGTH = 255


class ActionRefused(Exception):
    """The action makes no sense in the run's present state; the text is for the user."""


@dataclass(frozen=True)
class ActionResult:
    """The row that an action led to, and the text for the user. `level` is one of django.contrib.messages."""

    row: Any
    text: str
    level: int = messages.SUCCESS


class ReasonForm(forms.Form):
    """The reason for an action, which the ledger and the run's history record."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=MAX_REASON_LENGTH,
        help_text=gettext_lazy("Optional. Saved with the run for the audit trail."),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )

    def clean_reason(self) -> str:
        return " ".join(self.cleaned_data["reason"].split())


class RequiredReasonForm(ReasonForm):
    """The reason without which nothing is accepted."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=gettext_lazy("Saved with your name for the audit trail."),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )


@dataclass(frozen=True)
class RunAction:
    """An action on a run. `refusal` returns why it makes no sense now, or ""; `perform` takes the run, the user's name and the reason."""

    name: str
    label: Any
    question: Any  # a lazy plural, to be formatted with the number of runs
    history_entry: str
    icon: str
    variant: str
    refusal: Callable[[Run], str]
    perform: Callable[[Run, str, str], ActionResult]
    form: type[ReasonForm] = ReasonForm

    @property
    def permission(self) -> str:
        return f"orchestration.{self.name}_run"


@dataclass(frozen=True)
class Button:
    label: Any
    href: str
    icon: str
    variant: str


# --- Each action: why it is refused, and what it does ---


def refuse_rerun(run: Run) -> str:
    return _("Run %d has not ended yet.") % run.pk if run.is_active else ""


def refuse_resume(run: Run) -> str:
    """Return why the run cannot be resumed. An unreachable warehouse is not a reason: resuming reports it."""
    try:
        check_resumable(run)
    except CannotResume as error:
        return str(error)
    except EtlError:
        pass
    return ""


def refuse_cancel(run: Run) -> str:
    if not run.is_active:
        return _("Run %d has already ended.") % run.pk
    if run.cancelled_by:
        return _("%(person)s has already requested the cancellation of run %(number)d.") % {"person": run.cancelled_by, "number": run.pk}
    return ""


def perform_rerun(run: Run, person: str, reason: str) -> ActionResult:
    return describe_start(rerun(run, person, Trigger.ADMIN, reason, queue=True))


def perform_resume(run: Run, person: str, reason: str) -> ActionResult:
    resumed = resume_run(run.pk, queue=True, because=reason)
    return ActionResult(resumed, _("Run %d resumed.") % run.pk + describe_broker(resumed))


def refuse_accept(run: Run) -> str:
    return refuse_resume(run) if run.is_braked else _("Run %d was not stopped by the brakes: there is nothing to accept.") % run.pk


def perform_accept(run: Run, person: str, reason: str) -> ActionResult:
    resumed = resume_run(run.pk, queue=True, accepted_by=person, because=reason)
    return ActionResult(resumed, _("Run %d accepted; it is being published.") % run.pk + describe_broker(resumed))


def perform_cancel(run: Run, person: str, reason: str) -> ActionResult:
    cancelled = cancel_run(run.pk, person, reason)
    if cancelled is None:
        raise ActionRefused(_("Run %d has already ended.") % run.pk)
    cancelled.refresh_from_db()
    text = _("Run %d stops within ten seconds.") if cancelled.is_active else _("Run %d cancelled.")
    return ActionResult(cancelled, text % run.pk)


def describe_start(run: Run) -> ActionResult:
    """Return the result of a run just started: queued, or skipped because another one is active."""
    if run.state == State.SKIPPED:
        active = run.overlaps_id
        text = (
            _("Run %(number)d was skipped: run %(active)d is active.")
            if active
            else _("Run %(number)d was skipped: another run had only just ended. Start it again.")
        )
        return ActionResult(run, text % {"number": run.pk, "active": active}, messages.WARNING)
    return ActionResult(run, _("Run %d queued.") % run.pk + describe_broker(run))


def describe_broker(run: Run) -> str:
    """Return why a queued run waits where its message was not sent; the ledger sends it once the broker is back."""
    if run.state != State.QUEUED or run.tasks.exclude(message_sent_at=None).exists():
        return ""
    return " " + _("The message broker is unavailable; the run starts once it is back.")


RERUN = RunAction(
    "rerun",
    gettext_lazy("Rerun"),
    ngettext_lazy(
        "Start this run again with the same parameters?",
        "Start these runs again with the same parameters? Only one run can be active: the first is queued, the others are skipped.",
    ),
    gettext_noop("Rerun started"),
    "replay",
    "default",
    refuse_rerun,
    perform_rerun,
)
RESUME = RunAction(
    "resume",
    gettext_lazy("Resume"),
    ngettext_lazy(
        "Resume this run from the failed task? Tasks that succeeded are not repeated.",
        "Resume these runs from the failed task? Tasks that succeeded are not repeated.",
    ),
    gettext_noop("Resumed"),
    "resume",
    "primary",
    refuse_resume,
    perform_resume,
)
ACCEPT = RunAction(
    "accept",
    gettext_lazy("Accept and publish"),
    ngettext_lazy(
        "Publish this run although it takes more out of the warehouse than the limits allow? Your name and reason are saved with it.",
        "Publish these runs although they take more out of the warehouse than the limits allow? Your name and reason are saved with them.",
    ),
    gettext_noop("Accepted and published"),
    "check_circle",
    "primary",
    refuse_accept,
    perform_accept,
    form=RequiredReasonForm,
)
CANCEL = RunAction(
    "cancel",
    gettext_lazy("Cancel run"),
    ngettext_lazy("Cancel this run? None of its rows are published.", "Cancel these runs? None of their rows are published."),
    gettext_noop("Cancelled"),
    "cancel",
    "danger",
    refuse_cancel,
    perform_cancel,
)
ACTIONS = (ACCEPT, RESUME, RERUN, CANCEL)
STARTED, PREVIEW_STARTED = gettext_noop("Started"), gettext_noop("Preview started")


class HistoryAdmin(ModelAdmin):
    """Stores history entries in English and shows them in the language of the page."""

    def add_history_entry(self, request: HttpRequest, row: Model, entry: str, reason: str) -> None:
        self.log_change(request, row, f"{entry}: {reason}" if reason else entry)

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **options: Any) -> Any:
        """Return a paginator that counts the few entries of a history, also where the list does not count its rows."""
        paginator = Paginator if queryset.model is LogEntry else self.paginator
        return paginator(queryset, per_page, *args, **options)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        response: HttpResponse = super().history_view(request, object_id, extra_context)
        for each in getattr(response, "context_data", {}).get("action_list", ()):
            entry, colon, reason = each.change_message.partition(": ")
            each.change_message = (_(entry) if entry else "") + colon + reason
        return response


class ConfirmingAdmin(HistoryAdmin):
    """Pages that ask for confirmation before they act."""

    list_disable_select_all = True  # these lists do not count their rows, and an action takes a page of them

    def require_permission(self, request: HttpRequest, permission: str) -> None:
        if not (self.has_view_permission(request) and request.user.has_perm(permission)):
            raise PermissionDenied

    def render_confirmation(
        self, request: HttpRequest, template: str, action: Any, form: forms.Form, rows: Sequence[tuple[Any, str]], back: str
    ) -> HttpResponse:
        """Return the page that asks whether `action` is to be taken. `rows`: what it concerns, each with why that is refused, or ""."""
        context = {
            "title": action.label,
            "action": action,
            "question": action.question % len(rows),
            "rows": rows,
            "form": form,
            "possible": not all(refusal for _row, refusal in rows),
            "back": back,
        }
        return self.render_page(request, template, context)

    def render_page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        return TemplateResponse(request, template, {**self.admin_site.each_context(request), "opts": self.opts, **context})


class RunActionsAdmin(ConfirmingAdmin):
    """The buttons on a run's page, and the same actions on the list."""

    actions: Any = ("rerun_selected", "resume_selected", "cancel_selected")

    def get_urls(self) -> list[Any]:
        views = {action.name: self.admin_site.admin_view(self.make_view(action)) for action in ACTIONS}
        return [*(path(f"{name}/", view, name=url_name(name)) for name, view in views.items()), *super().get_urls()]

    def make_view(self, action: RunAction) -> Callable[[HttpRequest], HttpResponse]:
        return partial(self.confirm, action=action)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        run = context.get("original")
        context |= {"buttons": list_buttons(run, request.user), "unclaimed": is_unclaimed(run)} if isinstance(run, Run) else {}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    # --- The list ---

    @admin.action(permissions=["rerun"], description=RERUN.label)
    def rerun_selected(self, request: HttpRequest, selected: "QuerySet[Run]") -> HttpResponse:
        return self.redirect_to_confirmation(RERUN, selected)

    @admin.action(permissions=["resume"], description=RESUME.label)
    def resume_selected(self, request: HttpRequest, selected: "QuerySet[Run]") -> HttpResponse:
        return self.redirect_to_confirmation(RESUME, selected)

    @admin.action(permissions=["cancel"], description=CANCEL.label)
    def cancel_selected(self, request: HttpRequest, selected: "QuerySet[Run]") -> HttpResponse:
        return self.redirect_to_confirmation(CANCEL, selected)

    def redirect_to_confirmation(self, action: RunAction, selected: "QuerySet[Run]") -> HttpResponse:
        ids = list(selected.order_by("pk").values_list("pk", flat=True)[: MAX_RUNS + 1])
        return redirect(f"{run_address(action.name)}?{urlencode({'run': ids}, doseq=True)}")

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(RERUN.permission)

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(RESUME.permission)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CANCEL.permission)

    # --- The confirmation page ---

    def confirm(self, request: HttpRequest, action: RunAction) -> HttpResponse:
        self.require_permission(request, action.permission)
        is_submitted = request.method == "POST"
        ids = parse_ids(request.POST if is_submitted else request.GET, "run", MAX_RUNS)
        runs = list(Run.objects.filter(pk__in=ids).order_by("pk"))
        if not runs or len(ids) > MAX_RUNS:
            messages.error(request, _("Select between 1 and %d runs.") % MAX_RUNS)
            return redirect(run_address("changelist"))
        form = action.form(request.POST if is_submitted else None)
        if is_submitted and form.is_valid():
            return self.perform_on_all(request, action, runs, form.cleaned_data["reason"])
        rows = [(run, action.refusal(run)) for run in runs]
        return self.render_confirmation(request, "console/runs/confirm.html", action, form, rows, return_address(runs))

    def perform_on_all(self, request: HttpRequest, action: RunAction, runs: list[Run], reason: str) -> HttpResponse:
        results = [self.perform(request, action, run, reason) for run in runs]
        return redirect(return_address([results[0].row] if len(runs) == 1 else runs))

    def perform(self, request: HttpRequest, action: RunAction, run: Run, reason: str) -> ActionResult:
        """Act on one run, unless its present state refuses it, whatever the page showed; tell the user and write the history."""
        try:
            if refusal := action.refusal(run):
                raise ActionRefused(refusal)
            result = action.perform(run, request.user.get_username(), reason)
        except EtlError as error:
            result = ActionResult(run, translate(error.message), messages.ERROR)
        except (ActionRefused, CannotResume) as error:
            result = ActionResult(run, str(error), messages.ERROR)
        else:
            self.add_history_entry(request, run, action.history_entry, reason)
            if result.row != run:
                self.add_history_entry(request, result.row, STARTED, reason)
        show_result(request, result)
        return result


def list_buttons(run: Run, user: Any) -> list[Button]:
    """Return the actions that the user may take and that make sense in the run's present state."""
    actions = [action for action in ACTIONS if user.has_perm(action.permission) and not action.refusal(run)]
    buttons = [Button(action.label, f"{run_address(action.name)}?run={run.pk}", action.icon, action.variant) for action in actions]
    if run.dry_run and run.state != State.SKIPPED:
        buttons.insert(0, Button(_("Preview"), run_address("preview", run.pk), "preview", "primary"))
    return buttons


def is_unclaimed(run: Run) -> bool:
    """Return True if a worker should have taken the run by now."""
    return run.state == State.QUEUED and not run.is_local and clock.now() - run.created_at > timedelta(seconds=UNCLAIMED_AFTER_S)


def show_result(request: HttpRequest, result: ActionResult) -> None:
    """Tell the user. Unless it is an error, the text is about the run's state, which may be another one once a page shows it."""
    tag = "" if result.level == messages.ERROR else f"{MESSAGE_TAG}-{result.row.pk}-{result.row.state}"
    href = run_address("change", result.row.pk)
    text = format_html('{} <a class="tm-link" href="{}">{}</a>', result.text, href, result.row)
    messages.add_message(request, result.level, text, extra_tags=tag)


def parse_ids(form: Any, name: str, most: int) -> list[int]:
    """Return the ids in an address or a form, one more than `most` where there are more, without values that are not ids."""
    values = form.getlist(name)[: most + 1]
    return [int(value) for value in values if value.isascii() and value.isdecimal() and len(value) < 19]


def return_address(runs: Iterable[Run]) -> str:
    """Return the address of the run, or of the list for several."""
    ids = [run.pk for run in runs]
    return run_address("change", ids[0]) if len(ids) == 1 else run_address("changelist")


def url_name(name: str) -> str:
    return f"orchestration_run_{name}"


def run_address(name: str, *args: int) -> str:
    return reverse(f"admin:{url_name(name)}", args=args)
