"""The actions on rejects: replay and accept. A GET asks for confirmation and a reason, only a POST acts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext, ngettext_lazy

from apps.audit.chain import record
from apps.audit.models import Deed
from apps.console.runs.actions import (
    STARTED,
    Button,
    ConfirmingAdmin,
    ReasonForm,
    RequiredReasonForm,
    describe_start,
    parse_ids,
    run_address,
    show_result,
)
from apps.console.runs.start_form import START_PERMISSION
from apps.orchestration.models import Mode, RejectState, StandingReject, State, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.standing import accept, find_orders
from techmarket.errors import EtlError
from techmarket.formats import localize_count
from techmarket.messages import translate

ACCEPT_PERMISSION = "orchestration.accept_standingreject"
MAX_REJECTS = 50  # per action: a page of the list


@dataclass(frozen=True)
class RejectAction:
    """An action on rejects. `refusal` returns why it makes no sense for one of them now, or ""."""

    name: str
    label: Any
    question: Any  # a lazy plural, to be formatted with the number of rejects
    history_entry: str
    icon: str
    variant: str
    permission: str
    form: type[ReasonForm]
    refusal: Callable[[StandingReject], str]


def refuse_replay(reject: StandingReject) -> str:
    return _("It is cleared already.") if reject.state == RejectState.CLEARED else ""


def refuse_accept(reject: StandingReject) -> str:
    if reject.state == RejectState.ACCEPTED:
        return _("%(person)s has accepted it already.") % {"person": reject.decided_by}
    return refuse_replay(reject)


REPLAY = RejectAction(
    "replay",
    gettext_lazy("Replay"),
    ngettext_lazy(
        "Read the order of this row again now? The reject is cleared if the row has been mended or deleted in the source.",
        "Read the orders of these rows again now? A reject is cleared if its row has been mended or deleted in the source.",
    ),
    gettext_noop("Replayed"),
    "replay",
    "primary",
    START_PERMISSION,
    ReasonForm,
    refuse_replay,
)
ACCEPT = RejectAction(
    "accept",
    gettext_lazy("Accept"),
    ngettext_lazy(
        "Accept this reject? It no longer counts as open, and its row is not loaded. Once the row changes, it is open again.",
        "Accept these rejects? They no longer count as open, and their rows are not loaded. Once a row changes, its reject is open again.",
    ),
    gettext_noop("Accepted"),
    "check",
    "default",
    ACCEPT_PERMISSION,
    RequiredReasonForm,
    refuse_accept,
)
ACTIONS = (REPLAY, ACCEPT)


class RejectActionsAdmin(ConfirmingAdmin):
    """The buttons on a reject's page, and the same actions on the list."""

    actions: Any = ("replay_selected", "accept_selected")
    change_form_outer_before_template = "console/runs/buttons.html"

    def get_urls(self) -> list[Any]:
        views = {action.name: self.admin_site.admin_view(partial(self.confirm, action=action)) for action in ACTIONS}
        return [*(path(f"{name}/", view, name=url_name(name)) for name, view in views.items()), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        reject = context.get("original")
        context |= {"buttons": list_buttons(reject, request.user)} if isinstance(reject, StandingReject) else {}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    # --- The list ---

    @admin.action(permissions=["replay"], description=REPLAY.label)
    def replay_selected(self, request: HttpRequest, selected: "QuerySet[StandingReject]") -> HttpResponse:
        return redirect_to_confirmation(REPLAY, selected)

    @admin.action(permissions=["accept"], description=ACCEPT.label)
    def accept_selected(self, request: HttpRequest, selected: "QuerySet[StandingReject]") -> HttpResponse:
        return redirect_to_confirmation(ACCEPT, selected)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REPLAY.permission)

    def has_accept_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ACCEPT.permission)

    # --- The confirmation page ---

    def confirm(self, request: HttpRequest, action: RejectAction) -> HttpResponse:
        self.require_permission(request, action.permission)
        is_submitted = request.method == "POST"
        ids = parse_ids(request.POST if is_submitted else request.GET, "reject", MAX_REJECTS)
        rejects = list(StandingReject.objects.filter(pk__in=ids).defer("raw").order_by("pk"))
        if not rejects or len(ids) > MAX_REJECTS:
            messages.error(request, _("Select between 1 and %d rejects.") % MAX_REJECTS)
            return redirect(reject_address("changelist"))
        rows = [(reject, action.refusal(reject)) for reject in rejects]
        possible = [reject for reject, refusal in rows if not refusal]
        form = action.form(request.POST if is_submitted else None)
        if is_submitted and possible and form.is_valid():
            perform = self.replay if action is REPLAY else self.accept
            return perform(request, possible, form.cleaned_data["reason"])
        return self.render_confirmation(request, "console/rejects/confirm.html", action, form, rows, return_address(rejects))

    def replay(self, request: HttpRequest, rejects: list[StandingReject], reason: str) -> HttpResponse:
        """Start a run of exactly the orders of the rejected rows."""
        person, why = request.user.get_username(), reason or _("Replay of rejects")
        try:
            orders = find_orders(StandingReject.objects.filter(pk__in=[reject.pk for reject in rejects]))
            run = start_run(Mode.INCREMENTAL, Trigger.ADMIN, person, reason=why, queue=True, orders=orders)
        except EtlError as error:
            messages.error(request, translate(error.message))
            return redirect(return_address(rejects))
        self.add_history_entry(request, run, STARTED, why)
        if run.state != State.SKIPPED:
            record(Deed.REJECTS_REPLAYED, run, after={"rejects": [reject.pk for reject in rejects]}, reason=reason)
        for reject in rejects if run.state != State.SKIPPED else ():
            self.add_history_entry(request, reject, REPLAY.history_entry, reason)
        show_result(request, describe_start(run))
        return redirect(run_address("change", run.pk))

    def accept(self, request: HttpRequest, rejects: list[StandingReject], reason: str) -> HttpResponse:
        """Accept those that are still open, whatever the page showed."""
        accepted = accept([reject.pk for reject in rejects], request.user.get_username(), reason)
        for reject in rejects:
            if reject.pk in accepted:
                self.add_history_entry(request, reject, ACCEPT.history_entry, reason)
        text = ngettext("%(count)s reject accepted.", "%(count)s rejects accepted.", len(accepted))
        messages.success(request, text % {"count": localize_count(len(accepted))})
        return redirect(return_address(rejects))


def list_buttons(reject: StandingReject, user: Any) -> list[Button]:
    """Return the actions that the user may take and that make sense in the reject's present state."""
    actions = [action for action in ACTIONS if user.has_perm(action.permission) and not action.refusal(reject)]
    return [Button(action.label, confirm_address(action, [reject.pk]), action.icon, action.variant) for action in actions]


def redirect_to_confirmation(action: RejectAction, selected: "QuerySet[StandingReject]") -> HttpResponse:
    return redirect(confirm_address(action, list(selected.order_by("pk").values_list("pk", flat=True)[: MAX_REJECTS + 1])))


def confirm_address(action: RejectAction, ids: list[int]) -> str:
    return f"{reject_address(action.name)}?{urlencode({'reject': ids}, doseq=True)}"


def return_address(rejects: list[StandingReject]) -> str:
    """Return the address of the reject, or of the list for several."""
    return reject_address("change", rejects[0].pk) if len(rejects) == 1 else reject_address("changelist")


def url_name(name: str) -> str:
    return f"orchestration_standingreject_{name}"


def reject_address(name: str, *args: int) -> str:
    return reverse(f"admin:{url_name(name)}", args=args)
