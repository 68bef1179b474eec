"""The pages of schedules and crontabs, of scheduled runs, and of the decision on a missed run."""

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
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timeuntil
from django.utils.translation import gettext, gettext_lazy, gettext_noop
from django.utils.translation import gettext_lazy as _
from django_celery_beat import admin as _beats  # noqa: F401  must be registered before it is unregistered below
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.decorators import display

from apps.console.readonly import ReadOnlyAdmin
from apps.console.runs.actions import HistoryAdmin, ReasonForm, describe_start, run_address, show_result
from apps.console.runs.start_form import START_PERMISSION
from apps.console.unreadable import CheckingAdmin
from apps.orchestration import clock
from apps.orchestration.models import Decision, Schedule, ScheduledRun
from apps.orchestration.schedules import MODES, TASK, backfill_window, missed_runs, next_instants, resolve_missed_run, upcoming
from techmarket.errors import EtlError
from techmarket.formats import shop_time_zone
from techmarket.messages import translate

DECISION_COLOURS = {Decision.RUN: "success", Decision.CAUGHT_UP: "info", Decision.HELD: "warning", Decision.SKIPPED: "default"}
HELP = {
    "enabled": gettext_lazy("Clear to pause the schedule. Runs missed while paused await a decision."),
    "crontab": gettext_lazy("Several schedules may share a crontab. To change only this one, add a crontab and select it here."),
}
NO_TIME = gettext_noop("none: its crontab has no time in the coming year")
MAX_TIMES = 4  # a day; a crontab with more is shown as it is written
# By crontab number: 0 is Sunday.
WEEKDAYS = (_("Sundays"), _("Mondays"), _("Tuesdays"), _("Wednesdays"), _("Thursdays"), _("Fridays"), _("Saturdays"))

# Beat's own pages start tasks without a row in the ledger, and do not record pauses.
admin.site.unregister([PeriodicTask, CrontabSchedule, ClockedSchedule, IntervalSchedule, SolarSchedule])


# --- In words ---


def describe_crontab(crontab: CrontabSchedule) -> str:
    """Return the days and times if there are few, otherwise the crontab as written; with its time zone."""
    as_written = f"{crontab.minute} {crontab.hour} {crontab.day_of_month} {crontab.month_of_year} {crontab.day_of_week}"
    if (crontab.day_of_month, crontab.month_of_year) == ("*", "*") and upcoming(crontab, 1):
        plan = crontab.schedule
        times = [f"{hour:02}:{minute:02}" for hour in sorted(plan.hour) for minute in sorted(plan.minute)]
        if len(times) <= MAX_TIMES:
            return gettext("%(days)s at %(times)s, %(zone)s") % {
                "days": describe_days(plan.day_of_week),
                "times": ", ".join(times),
                "zone": zone_name(crontab),
            }
    return f"{as_written}, {zone_name(crontab)}"


def describe_days(numbers: set[int]) -> str:
    """Return the weekdays from Monday on; in a crontab, Sunday is 0."""
    if len(numbers) == len(WEEKDAYS):
        return gettext("every day")
    return ", ".join(str(WEEKDAYS[number]) for number in sorted(numbers, key=lambda number: (number - 1) % 7))


def zone_name(crontab: CrontabSchedule) -> str:
    return shop_time_zone() if str(crontab.timezone) == settings.SHOP_TIME_ZONE else str(crontab.timezone)


def describe_instant(instant: datetime) -> str:
    """Return the date and time in the shop's time zone, and how long it is until then."""
    text = date_format(timezone.localtime(instant), "l, j E Y, H:i")
    return gettext("%(instant)s %(place)s (in %(time)s)") % {
        "instant": text,
        "place": shop_time_zone(),
        "time": timeuntil(instant, clock.now(), depth=1),
    }


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(CheckingAdmin):
    """TechMarket's two schedules. They are saved row by row, because signals record the pauses."""

    list_display = ("name", "enabled", "times", "next_run", "last_run")
    list_select_related = ("crontab",)
    search_fields = ("name",)
    fields = ("schedule", "enabled", "crontab", "next_runs", "last_run")
    readonly_fields = ("schedule", "next_runs", "last_run")
    actions = ("run_selected",)
    change_form_outer_before_template = "console/schedules/schedule.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PeriodicTask]:
        schedules: QuerySet[PeriodicTask] = super().get_queryset(request).filter(task=TASK)
        return schedules

    def get_actions(self, request: HttpRequest) -> Any:
        """Return the actions without deletion, which Django adds by itself."""
        return {name: action for name, action in super().get_actions(request).items() if name in self.actions}

    def formfield_for_dbfield(self, db_field: "Field[Any, Any]", request: HttpRequest, **options: Any) -> Any:
        """Return the field with our help text: beat's own is about fields that this page does not show."""
        field: Any = super().formfield_for_dbfield(db_field, request, **options)
        field.help_text = HELP.get(db_field.name, "")
        return field

    def formfield_for_foreignkey(self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **options: Any) -> Any:
        """Return the crontab as a required field, because TechMarket's schedules have no other kind."""
        field: Any = super().formfield_for_foreignkey(db_field, request, **options, required=True)
        field.label_from_instance = describe_crontab
        return field

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(START_PERMISSION)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        schedule = context.get("original")
        if schedule:
            context |= {"missed_runs": missed_runs().filter(schedule=schedule.name)}
        if schedule and self.has_start_permission(request):
            context |= {"start": start_address(schedule)}
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    @admin.action(permissions=["start"], description=gettext_lazy("Run now"))
    def run_selected(self, request: HttpRequest, selected: "QuerySet[PeriodicTask]") -> HttpResponse | None:
        """Open the start form of the selected schedule's mode."""
        schedules = list(selected)
        if len(schedules) == 1:
            return redirect(start_address(schedules[0]))
        messages.error(
            request, gettext("Select one schedule. Only one run can be active, and a full run includes what an incremental one loads.")
        )
        return None

    @admin.display(description=gettext_lazy("Name"))
    def schedule(self, schedule: PeriodicTask) -> str:
        return str(schedule.name)

    @admin.display(description=_("last run"), ordering="last_run_at")
    def last_run(self, schedule: PeriodicTask) -> str:
        return date_format(timezone.localtime(schedule.last_run_at), "j E Y, H:i") if schedule.last_run_at else "–"

    @admin.display(description=_("times"))
    def times(self, schedule: PeriodicTask) -> str:
        return describe_crontab(schedule.crontab)

    @admin.display(description=_("next run"))
    def next_run(self, schedule: PeriodicTask) -> str:
        if not schedule.enabled:
            return gettext("paused")
        instants = next_instants(schedule.name, 1)
        return describe_instant(instants[0]) if instants else gettext(NO_TIME)

    @admin.display(description=_("next runs"))
    def next_runs(self, schedule: PeriodicTask) -> Any:
        """Return the next five instants, or a note that the schedule is paused."""
        if not schedule.enabled:
            return gettext("Paused. Enable the schedule to run it again.")
        instants = next_instants(schedule.name)
        return render_list(describe_instant, instants) if instants else gettext(NO_TIME)


def render_list(describe: Callable[[datetime], str], instants: list[datetime]) -> Any:
    return format_html("<ol>{}</ol>", format_html_join("", "<li>{}</li>", ((describe(instant),) for instant in instants)))


def start_address(schedule: PeriodicTask) -> str:
    return f"{run_address('start')}?mode={MODES[schedule.name]}"


class CrontabForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        """Reject what beat's form accepts but Celery cannot read, and days that no month has: every page of a schedule would fail."""
        cleaned = super().clean() or {}
        if not self.errors and not upcoming(CrontabSchedule(**cleaned), 1):
            raise forms.ValidationError(
                gettext("This crontab has no time in the coming year. Sunday is 0; choose days that exist in the chosen months.")
            )
        return cleaned


@admin.register(CrontabSchedule)
class CrontabAdmin(CheckingAdmin):
    """The times of schedules. They cannot be deleted: the schedules that use them would be deleted too."""

    form = CrontabForm
    list_display = ("__str__", "description")
    fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year", "timezone", "next_runs")
    readonly_fields = ("next_runs",)
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description=_("description"))
    def description(self, crontab: CrontabSchedule) -> str:
        return describe_crontab(crontab)

    @admin.display(description=_("next runs"))
    def next_runs(self, crontab: CrontabSchedule) -> Any:
        return render_list(describe_instant, upcoming(crontab)) if crontab.pk else ""


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    list_display = ("name", "enabled_since", "paused_at", "failing_since")
    search_fields = ("name",)


# What an operator may do about a missed run: the form's value, its button, and the history entry.
RESOLUTIONS = {
    "run": (gettext_lazy("Run now"), gettext_noop("Run after the pause")),
    "backfill": (gettext_lazy("Backfill the days since the last successful run"), gettext_noop("Backfilled after the pause")),
    "skip": (gettext_lazy("Skip"), gettext_noop("Skipped after the pause")),
}


@admin.register(ScheduledRun)
class ScheduledRunAdmin(HistoryAdmin, ReadOnlyAdmin):
    list_display = ("schedule", "scheduled_for", "coloured_decision", "run", "decided_by")
    list_filter = ("decision", "schedule")
    list_select_related = ("schedule", "run")
    search_fields = ("schedule__name", "decided_by")
    date_hierarchy = "scheduled_for"
    change_form_outer_before_template = "console/schedules/missed_run.html"
    empty_text = _("Runs that a schedule starts or misses appear here.")

    def get_urls(self) -> list[Any]:
        resolve = self.admin_site.admin_view(self.resolve)
        return [path("<int:number>/resolve/", resolve, name="orchestration_scheduledrun_resolve"), *super().get_urls()]

    @display(description=_("decision"), ordering="decision", label=DECISION_COLOURS)
    def coloured_decision(self, scheduled: ScheduledRun) -> Any:
        return scheduled.decision, scheduled.get_decision_display()

    def resolve(self, request: HttpRequest, number: int) -> HttpResponse:
        """Show the options for a missed run; a POST takes one of them."""
        if not (self.has_view_permission(request) and request.user.has_perm(START_PERMISSION)):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        missed = get_object_or_404(ScheduledRun, pk=number)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            self.apply_resolution(request, missed, request.POST.get("resolution", ""), form.cleaned_data["reason"])
            return redirect("admin:orchestration_scheduledrun_change", missed.pk)
        context = {"title": gettext("Missed run"), "missed": missed, "form": form, "opts": self.opts}
        resolutions = [(name, label) for name, (label, _entry) in RESOLUTIONS.items()] if missed.decision == Decision.HELD else []
        back = reverse("admin:orchestration_scheduledrun_changelist")
        context |= self.admin_site.each_context(request) | {"resolutions": resolutions, "back": back}
        return TemplateResponse(request, "console/schedules/resolve.html", context)

    def apply_resolution(self, request: HttpRequest, missed: ScheduledRun, name: str, reason: str) -> None:
        if name not in RESOLUTIONS:
            return messages.error(request, gettext("Choose one of the options."))
        try:
            window = backfill_window(missed) if name == "backfill" else None
            resolve_missed_run(missed, Decision.SKIPPED if name == "skip" else Decision.RUN, request.user.get_username(), window)
        except EtlError as error:
            return messages.error(request, translate(error.message))
        self.add_history_entry(request, missed, RESOLUTIONS[name][1], reason)
        if missed.run:
            return show_result(request, describe_start(missed.run))
        return messages.success(request, gettext("Missed run skipped."))
