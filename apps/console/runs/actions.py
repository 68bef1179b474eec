"""What may be done with a run: start it again, go on with it, end it. A GET shows what would be done, and only a POST does it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.orchestration.models import Run, State, Trigger
from apps.orchestration.requests import UNCLAIMED_AFTER_S, CannotResume, cancel_run, check_resumable, rerun, resume_run
from techmarket.errors import EtlError

MOST_RUNS = 50  # that are acted on at once: a page of the list
MOST_REASON = 255


class Refused(Exception):
    """It makes no sense for this row as it is; the message is for whoever asked."""


@dataclass(frozen=True)
class Outcome:
    """What came of it: the row that it led to, and the sentence for whoever asked. `level` is of django.contrib.messages."""

    row: Any
    said: str
    level: int = messages.SUCCESS


@dataclass(frozen=True)
class Verb:
    """One thing to do with a run. `refusal` says in a sentence why it makes no sense, or nothing; `act` does it, for whom and why."""

    name: str
    label: Any
    question: Any
    noted: str
    icon: str
    variant: str
    refusal: Callable[[Run], str]
    act: Callable[[Run, str, str], Outcome]

    @property
    def right(self) -> str:
        return f"orchestration.{self.name}_run"


@dataclass(frozen=True)
class Button:
    label: Any
    href: str
    icon: str
    variant: str


class Why(forms.Form):
    """Whoever acts says why; it stands in the ledger and in the history of the run."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=MOST_REASON,
        help_text=gettext_lazy("Stays with the run: for whoever asks later."),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )

    def clean_reason(self) -> str:
        return " ".join(self.cleaned_data["reason"].split())


# --- Each verb: when it makes no sense, and what it does ---


def not_ended(run: Run) -> str:
    return _("Run %d has not ended yet.") % run.pk if run.is_active else ""


def not_resumable(run: Run) -> str:
    """Where the warehouse does not answer, that is said to whoever tries."""
    try:
        check_resumable(run)
    except CannotResume as error:
        return str(error)
    except EtlError:
        pass
    return ""


def not_active(run: Run) -> str:
    if not run.is_active:
        return _("Run %d has ended already.") % run.pk
    if run.cancelled_by:
        return _("%(person)s has already asked to cancel run %(number)d.") % {"person": run.cancelled_by, "number": run.pk}
    return ""


def start_again(run: Run, by: str, reason: str) -> Outcome:
    return asked(rerun(run, by, Trigger.ADMIN, reason, queue=True))


def go_on(run: Run, by: str, reason: str) -> Outcome:
    return Outcome(resumed := resume_run(run.pk, queue=True), _("Run %d goes on where it ended.") % run.pk + unsent(resumed))


def stop(run: Run, by: str, reason: str) -> Outcome:
    ended = cancel_run(run.pk, by, reason)
    if ended is None:
        raise Refused(_("Run %d has ended already.") % run.pk)
    ended.refresh_from_db()
    said = _("Run %d ends within ten seconds.") if ended.is_active else _("Run %d is cancelled.")
    return Outcome(ended, said % run.pk)


def asked(run: Run) -> Outcome:
    """Of a run that was asked for just now."""
    if run.state == State.SKIPPED:
        active = run.overlaps_id
        said = _("Run %(number)d was skipped: run %(active)d is active.") if active else _("Run %(number)d was skipped: try again.")
        return Outcome(run, said % {"number": run.pk, "active": active}, messages.WARNING)
    return Outcome(run, _("Run %d is queued.") % run.pk + unsent(run))


def unsent(run: Run) -> str:
    """The ledger sends it once the broker is back; until then whoever waits should know why."""
    if run.state != State.QUEUED or run.tasks.exclude(message_sent_at=None).exists():
        return ""
    return " " + _("The broker takes no messages now; the workers get the run once it does.")


RERUN = Verb(
    "rerun",
    gettext_lazy("Re-run"),
    gettext_lazy("Start these runs again, each as it was asked for? Only one run is active at a time: of several the first is queued."),
    gettext_noop("Started again"),
    "replay",
    "default",
    not_ended,
    start_again,
)
RESUME = Verb(
    "resume",
    gettext_lazy("Resume from the failed task"),
    gettext_lazy("Go on with these runs where they ended? What succeeded stays done."),
    gettext_noop("Resumed"),
    "resume",
    "primary",
    not_resumable,
    go_on,
)
CANCEL = Verb(
    "cancel",
    gettext_lazy("Cancel the run"),
    gettext_lazy("End these runs? Nothing of them is published."),
    gettext_noop("Cancelled"),
    "cancel",
    "danger",
    not_active,
    stop,
)
VERBS = (RESUME, RERUN, CANCEL)
STARTED, PREVIEWED = gettext_noop("Started"), gettext_noop("Preview started")


class Noted(ModelAdmin):
    """For the admin of what is acted on: what was done is noted in English, and shown in the language of the page."""

    def note(self, request: HttpRequest, row: Model, noted: str, reason: str) -> None:
        self.log_change(request, row, f"{noted}: {reason}" if reason else noted)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        response: Any = super().history_view(request, object_id, extra_context)
        for entry in getattr(response, "context_data", {}).get("action_list", ()):
            noted, colon, reason = entry.change_message.partition(": ")
            entry.change_message = (_(noted) if noted else "") + colon + reason
        return response


class Buttons(Noted):
    """For the admin of runs: the buttons of a run's page, the same for several runs of the list, and their history."""

    actions: Any = ("rerun_selected", "resume_selected", "cancel_selected")

    def get_urls(self) -> list[Any]:
        verbs = [path(f"{verb.name}/", self.admin_site.admin_view(self.view_of(verb)), name=page(verb.name)) for verb in VERBS]
        return [*verbs, *super().get_urls()]

    def view_of(self, verb: Verb) -> Callable[[HttpRequest], HttpResponse]:
        return partial(self.acting, verb=verb)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        run = context.get("original")
        context |= {"buttons": buttons(run, request.user), "unclaimed": unclaimed(run)} if isinstance(run, Run) else {}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    # --- Of the list ---

    @admin.action(permissions=["rerun"], description=RERUN.label)
    def rerun_selected(self, request: HttpRequest, chosen: "QuerySet[Run]") -> HttpResponse:
        return self.chosen(request, RERUN, chosen)

    @admin.action(permissions=["resume"], description=RESUME.label)
    def resume_selected(self, request: HttpRequest, chosen: "QuerySet[Run]") -> HttpResponse:
        return self.chosen(request, RESUME, chosen)

    @admin.action(permissions=["cancel"], description=CANCEL.label)
    def cancel_selected(self, request: HttpRequest, chosen: "QuerySet[Run]") -> HttpResponse:
        return self.chosen(request, CANCEL, chosen)

    def chosen(self, request: HttpRequest, verb: Verb, chosen: "QuerySet[Run]") -> HttpResponse:
        numbers = list(chosen.order_by("pk").values_list("pk", flat=True)[: MOST_RUNS + 1])
        return redirect(f"{address(verb.name)}?{urlencode({'run': numbers}, doseq=True)}")

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(RERUN.right)

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(RESUME.right)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CANCEL.right)

    # --- The page that asks whether, and why; and the answer ---

    def acting(self, request: HttpRequest, verb: Verb) -> HttpResponse:
        self.allow(request, verb.right)
        posted = request.method == "POST"
        numbers = given(request.POST if posted else request.GET)
        runs = list(Run.objects.filter(pk__in=numbers).order_by("pk"))
        if not runs or len(numbers) > MOST_RUNS:
            messages.error(request, _("Choose from one to %d runs.") % MOST_RUNS)
            return redirect(address("changelist"))
        form = Why(request.POST if posted else None)
        if posted and form.is_valid():
            return self.done(request, verb, runs, form.cleaned_data["reason"])
        rows = [(run, verb.refusal(run)) for run in runs]
        context = {"title": verb.label, "verb": verb, "rows": rows, "form": form, "possible": not all(why for _run, why in rows)}
        return self.asking(request, "console/runs/acting.html", context | {"back": back(runs)})

    def done(self, request: HttpRequest, verb: Verb, runs: list[Run], reason: str) -> HttpResponse:
        outcomes = [self.act(request, verb, run, reason) for run in runs]
        return redirect(back([outcomes[0].row] if len(runs) == 1 else runs))

    def act(self, request: HttpRequest, verb: Verb, run: Run, reason: str) -> Outcome:
        """On one run: refused as it stands now, whatever the page said; told, and written into its history."""
        try:
            if why := verb.refusal(run):
                raise Refused(why)
            outcome = verb.act(run, request.user.get_username(), reason)
        except (Refused, CannotResume, EtlError) as error:
            outcome = Outcome(run, str(error), messages.ERROR)
        else:
            self.note(request, run, verb.noted, reason)
            if outcome.row != run:
                self.note(request, outcome.row, STARTED, reason)
        tell(request, outcome)
        return outcome

    def allow(self, request: HttpRequest, right: str) -> None:
        if not (self.has_view_permission(request) and request.user.has_perm(right)):
            raise PermissionDenied

    def asking(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        return TemplateResponse(request, template, {**self.admin_site.each_context(request), "opts": self.opts, **context})


def buttons(run: Run, person: Any) -> list[Button]:
    """Those that this person may press, and that make sense for the run as it is."""
    fitting = [verb for verb in VERBS if person.has_perm(verb.right) and not verb.refusal(run)]
    shown = [Button(verb.label, f"{address(verb.name)}?run={run.pk}", verb.icon, verb.variant) for verb in fitting]
    if run.dry_run and run.state != State.SKIPPED:
        shown.insert(0, Button(_("What would change"), address("preview", run.pk), "preview", "primary"))
    return shown


def unclaimed(run: Run) -> bool:
    """Whether the workers should have taken it by now."""
    return run.state == State.QUEUED and not run.is_local and timezone.now() - run.created_at > timedelta(seconds=UNCLAIMED_AFTER_S)


def tell(request: HttpRequest, outcome: Outcome) -> None:
    href = address("change", outcome.row.pk)
    messages.add_message(request, outcome.level, format_html('{} <a class="tm-link" href="{}">{}</a>', outcome.said, href, outcome.row))


def given(form: Any) -> list[int]:
    """The numbers of runs in an address or a form; what is none is left out."""
    words = form.getlist("run")[: MOST_RUNS + 1]
    return [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 19]


def back(runs: Iterable[Run]) -> str:
    numbers = [run.pk for run in runs]
    return address("change", numbers[0]) if len(numbers) == 1 else address("changelist")


def page(name: str) -> str:
    return f"orchestration_run_{name}"


def address(name: str, *args: int) -> str:
    return reverse(f"admin:{page(name)}", args=args)
