"""The two schedules: when they are due, what was decided of each due instant, and their pauses."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Field, ForeignKey, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.dates import WEEKDAYS
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop
from django_celery_beat import admin as _beats  # noqa: F401  what is taken away below must be there
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin
from unfold.decorators import display

from apps.console.readonly import ReadOnlyAdmin
from apps.console.runs.actions import Noted, Why, address, asked, tell
from apps.console.runs.start import START
from apps.orchestration.models import Decision, Schedule, ScheduledRun
from apps.orchestration.schedules import MODES, TASK, backfill_window, missed_runs, resolve_missed_run, upcoming
from techmarket.amounts import place
from techmarket.errors import EtlError

DECISIONS = {Decision.RUN: "success", Decision.CAUGHT_UP: "info", Decision.HELD: "warning", Decision.SKIPPED: "default"}
HELP = {
    "enabled": gettext_lazy("Off: paused. What falls into the pause waits for an operator's word."),
    "crontab": gettext_lazy("A crontab may be of several schedules: to change one alone, add another crontab and choose it."),
}
MOST_TIMES = 4  # of a day, in words

# Beat's own pages start tasks past the ledger, and pause schedules without a memory of it.
admin.site.unregister([PeriodicTask, CrontabSchedule, ClockedSchedule, IntervalSchedule, SolarSchedule])


# --- In words ---


def describe_crontab(crontab: CrontabSchedule) -> str:
    """Days and times where there are few; else the crontab as it stands. In its own time zone, which is said."""
    as_it_stands = f"{crontab.minute} {crontab.hour} {crontab.day_of_month} {crontab.month_of_year} {crontab.day_of_week}"
    if (crontab.day_of_month, crontab.month_of_year) == ("*", "*") and upcoming(crontab, 1):
        plan = crontab.schedule
        times = [f"{hour:02}:{minute:02}" for hour in sorted(plan.hour) for minute in sorted(plan.minute)]
        if len(times) <= MOST_TIMES:
            return _("%(days)s at %(times)s, %(zone)s") % {
                "days": days(plan.day_of_week),
                "times": ", ".join(times),
                "zone": zone_name(crontab),
            }
    return f"{as_it_stands}, {zone_name(crontab)}"


def days(numbers: set[int]) -> str:
    """Of a crontab, where Sunday is 0."""
    if len(numbers) == len(WEEKDAYS):
        return _("every day")
    return ", ".join(str(WEEKDAYS[(number - 1) % 7]) for number in sorted(numbers, key=lambda number: (number - 1) % 7))


def zone_name(crontab: CrontabSchedule) -> str:
    return place() if str(crontab.timezone) == settings.SHOP_TIME_ZONE else str(crontab.timezone)


def instant_in_words(instant: datetime) -> str:
    local = timezone.localtime(instant)
    said = date_format(local, "l, j E Y, H:i")
    return _("%(instant)s %(place)s, in %(time)s") % {"instant": said, "place": place(), "time": timeuntil(instant, depth=1)}


@admin.register(PeriodicTask)
class ScheduledAdmin(ModelAdmin):
    """Our two schedules: on or paused, and when. Saved row by row, so that a pause is remembered."""

    list_display = ("name", "enabled", "when", "next", "last_run_at")
    list_select_related = ("crontab",)
    search_fields = ("name",)
    fields = ("schedule", "enabled", "crontab", "due", "last_sent")
    readonly_fields = ("schedule", "due", "last_sent")
    actions = ("run_selected",)
    change_form_outer_before_template = "console/schedules/schedule.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PeriodicTask]:
        schedules: QuerySet[PeriodicTask] = super().get_queryset(request).filter(task=TASK)
        return schedules

    def get_actions(self, request: HttpRequest) -> Any:
        """Without deletion, which Django adds by itself."""
        return {name: action for name, action in super().get_actions(request).items() if name in self.actions}

    def formfield_for_dbfield(self, db_field: "Field[Any, Any]", request: HttpRequest, **options: Any) -> Any:
        """Beat's own help is about what is not shown here."""
        field: Any = super().formfield_for_dbfield(db_field, request, **options)
        field.help_text = HELP.get(db_field.name, "")
        return field

    def formfield_for_foreignkey(self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **options: Any) -> Any:
        """Beat takes other kinds of schedule as well; ours have a crontab."""
        field: Any = super().formfield_for_foreignkey(db_field, request, **options, required=True)
        field.label_from_instance = describe_crontab
        return field

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(START)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        schedule = context.get("original")
        if schedule and self.has_start_permission(request):
            context |= {"start": start_page(schedule), "held": missed_runs().filter(schedule=schedule.name)}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    @admin.action(permissions=["start"], description=gettext_lazy("Run now"))
    def run_selected(self, request: HttpRequest, chosen: "QuerySet[PeriodicTask]") -> HttpResponse | None:
        """In the place of beat's own, which goes past the ledger."""
        schedules = list(chosen)
        if len(schedules) == 1:
            return redirect(start_page(schedules[0]))
        messages.error(request, _("Choose one schedule: only one run is active at a time, and a full one brings what the other would."))
        return None

    @admin.display(description=gettext_lazy("Name"))
    def schedule(self, schedule: PeriodicTask) -> str:
        return str(schedule.name)

    @admin.display(description=gettext_lazy("Last Run Datetime"))
    def last_sent(self, schedule: PeriodicTask) -> str:
        return date_format(timezone.localtime(schedule.last_run_at), "j E Y, H:i") if schedule.last_run_at else "–"

    @admin.display(description=gettext_lazy("when"))
    def when(self, schedule: PeriodicTask) -> str:
        return describe_crontab(schedule.crontab)

    @admin.display(description=gettext_lazy("next due"))
    def next(self, schedule: PeriodicTask) -> str:
        instants = upcoming(schedule.crontab, 1) if schedule.enabled else []
        return instant_in_words(instants[0]) if instants else _("paused")

    @admin.display(description=gettext_lazy("next due"))
    def due(self, schedule: PeriodicTask) -> Any:
        """The next five instants, or that it is paused."""
        if not schedule.enabled:
            return _("Paused: no run by itself until it is enabled.")
        return listed(instant_in_words, upcoming(schedule.crontab))


def listed(words: Callable[[datetime], str], instants: list[datetime]) -> Any:
    return format_html("<ol>{}</ol>", format_html_join("", "<li>{}</li>", ((words(instant),) for instant in instants)))


def start_page(schedule: PeriodicTask) -> str:
    return f"{address('start')}?mode={MODES[schedule.name]}"


class CrontabForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        """Beat's own rules let through what Celery cannot read, and days that no calendar has: every page of a schedule would fail."""
        cleaned = super().clean() or {}
        if not self.errors and not upcoming(CrontabSchedule(**cleaned), 1):
            raise forms.ValidationError(_("No instant of the coming year fits. Sunday is 0; ask for days that the months have."))
        return cleaned


@admin.register(CrontabSchedule)
class CrontabAdmin(ModelAdmin):
    """When a schedule may be due. Nothing is deleted here: the schedules that use it would go with it."""

    form = CrontabForm
    list_display = ("__str__", "words")
    fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year", "timezone", "due")
    readonly_fields = ("due",)
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("in words"))
    def words(self, crontab: CrontabSchedule) -> str:
        return describe_crontab(crontab)

    @admin.display(description=gettext_lazy("next due"))
    def due(self, crontab: CrontabSchedule) -> Any:
        return listed(instant_in_words, upcoming(crontab)) if crontab.pk else ""


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    list_display = ("name", "enabled_since", "paused_at", "failing_since")
    search_fields = ("name",)


# What an operator may say of a due instant that fell into a pause: the word, how it is offered, and how it is noted.
ANSWERS = {
    "run": (gettext_lazy("Run now"), gettext_noop("Run after the pause")),
    "backfill": (gettext_lazy("Backfill the days since the last success"), gettext_noop("Backfilled after the pause")),
    "skip": (gettext_lazy("Skip it"), gettext_noop("Skipped after the pause")),
}


@admin.register(ScheduledRun)
class DueAdmin(Noted, ReadOnlyAdmin):
    list_display = ("schedule", "scheduled_for", "coloured_decision", "run", "decided_by")
    list_filter = ("decision", "schedule")
    list_select_related = ("schedule", "run")
    search_fields = ("schedule__name", "decided_by")
    date_hierarchy = "scheduled_for"
    change_form_outer_before_template = "console/schedules/due.html"

    def get_urls(self) -> list[Any]:
        answering = self.admin_site.admin_view(self.answering)
        return [path("<int:number>/answer/", answering, name="orchestration_scheduledrun_answer"), *super().get_urls()]

    @display(description="decision", ordering="decision", label=DECISIONS)
    def coloured_decision(self, due: ScheduledRun) -> Any:
        return due.decision, due.get_decision_display()

    def answering(self, request: HttpRequest, number: int) -> HttpResponse:
        """The page that asks what to do with a due instant that was held; the POST says it."""
        if not (self.has_view_permission(request) and request.user.has_perm(START)):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        due = get_object_or_404(ScheduledRun, pk=number)
        form = Why(request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            self.answered(request, due, request.POST.get("answer", ""), form.cleaned_data["reason"])
            return redirect("admin:orchestration_scheduledrun_change", due.pk)
        context = {"title": _("A due instant that fell into a pause"), "due": due, "form": form, "opts": self.opts}
        words = [(word, label) for word, (label, _noted) in ANSWERS.items()] if due.decision == Decision.HELD else []
        back = reverse("admin:orchestration_scheduledrun_changelist")
        return TemplateResponse(
            request, "console/schedules/answering.html", self.admin_site.each_context(request) | context | {"words": words, "back": back}
        )

    def answered(self, request: HttpRequest, due: ScheduledRun, word: str, reason: str) -> None:
        if word not in ANSWERS:
            return messages.error(request, _("Choose one of the answers."))
        try:
            window = backfill_window(due) if word == "backfill" else None
            resolve_missed_run(due, Decision.SKIPPED if word == "skip" else Decision.RUN, request.user.get_username(), window)
        except EtlError as error:
            return messages.error(request, str(error))
        self.note(request, due, ANSWERS[word][1], reason)
        if due.run:
            return tell(request, asked(due.run))
        return messages.success(request, _("It is skipped."))
