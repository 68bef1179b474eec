"""The pages and the CSV export of rejected rows. Only users with view_raw see the raw content."""

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext, override, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from unfold.paginator import InfinitePaginator

from apps.console.readonly import HIDDEN, VIEW_RAW, ReadOnlyAdmin
from apps.etl.tables import SOURCES
from apps.etl.transform.rules import RULES, render_label
from apps.orchestration.models import Reject, RejectedContent, RejectState, Run, StandingReject

TABLES = {source.table: source.alias for source in SOURCES.values()}
AGES = (("1", _("Last 24 hours")), ("7", _("Last 7 days")), ("30", _("Last 30 days")), ("older", _("Older than 30 days")))
RECENT_RUNS, OFFERED_RUNS = 200, 10  # the filter offers so many of the recent runs that have rejects
CHUNK_ROWS = 2_000  # fetched at a time by the export
# A spreadsheet reads a cell that starts with one of these as a formula; the last four are full-width.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
CSV_HEADER = ("run", "requested_at", "table", "row_id", "rule", "reason", "raw")


class FixedChoicesFilter(SimpleListFilter):
    """A filter whose choices are known without a query over millions of rows."""

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(**{self.parameter_name or "": self.value()}) if self.value() else queryset


class RuleFilter(FixedChoicesFilter):
    title, parameter_name = _("rule"), "rule__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return sorted(((code, render_label(code, gettext)) for code in RULES), key=lambda choice: choice[1])


class TableFilter(FixedChoicesFilter):
    title, parameter_name = _("table"), "table__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(table, f"{TABLES[table]}.{table}") for table in sorted(TABLES)]


class StateFilter(FixedChoicesFilter):
    title, parameter_name = _("state"), "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return RejectState.choices


class RunFilter(FixedChoicesFilter):
    """Offers the latest runs with rejects; the address may name any other."""

    title, parameter_name = _("run"), "run__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        latest = Run.objects.values_list("pk", flat=True).first() or 0
        runs = Run.objects.filter(Exists(Reject.objects.filter(run=OuterRef("pk"))), pk__gt=latest - RECENT_RUNS)
        numbers = [str(number) for number in runs.values_list("pk", flat=True)[:OFFERED_RUNS]]
        chosen = request.GET.get("run__exact", "")
        return [(number, number) for number in ([chosen] if chosen.isdecimal() and chosen not in numbers else []) + numbers]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        value = self.value()
        if value and not (value.isascii() and value.isdecimal() and len(value) < 19):
            raise IncorrectLookupParameters
        return super().queryset(request, queryset)


class AgeFilter(SimpleListFilter):
    """Filters by the time of the run: runs are few, and rejects have an index on the run."""

    title, parameter_name = _("age"), "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return AGES

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() not in dict(AGES):
            return queryset
        older = self.value() == "older"
        since = timezone.now() - timedelta(days=30 if older else int(self.value() or 0))
        first = Run.objects.filter(created_at__gte=since).order_by("pk").values_list("pk", flat=True).first()
        if first is None:
            return queryset if older else queryset.none()
        return queryset.filter(run__lt=first) if older else queryset.filter(run__gte=first)


class RejectedContentAdmin(ReadOnlyAdmin):
    """Pages that never count the rejects and only sort them by id, because a dirty source has millions."""

    ordering = ("-id",)
    sortable_by = ()
    paginator = InfinitePaginator
    search_fields = ("row_id__exact",)
    search_help_text = _("Row id in the source")
    empty_text = _("Rows that break a rule appear here after a run, with the rule and their raw content.")

    @admin.display(description=_("rule"))
    def rule_label(self, reject: RejectedContent) -> Any:
        return reject.label

    @admin.display(description=pgettext_lazy("rejected row", "reason"))
    def reason_text(self, reject: RejectedContent) -> str:
        return reject.reason

    @admin.display(description=_("row"))
    def source_row(self, reject: RejectedContent) -> Any:
        """Return the source table and the row's id, with a link to its page where there is one."""
        text = f"{TABLES.get(reject.table, '')}.{reject.table} {reject.row_id}".lstrip(".")
        page = find_source_page(reject)
        return format_html('<a class="tm-link" href="{}">{}</a>', page, text) if page else text

    @admin.display(description=_("columns"))
    def content(self, reject: RejectedContent) -> Any:
        return render_columns(reject.raw) if isinstance(reject.raw, dict) else reject.raw


@admin.register(StandingReject)
class StandingRejectAdmin(RejectedContentAdmin):
    """The life of each reject, over all runs."""

    list_display = ("row_id", "table", "rule_label", "amount", "state", "first_seen", "last_seen", "runs")
    list_filter = (StateFilter, RuleFilter, TableFilter)
    LIFE = ("state", "first_seen", "first_run", "last_seen", "last_run", "runs", "cleared_by_run", "decided_by", "decided_at", "comment")
    fieldsets = (
        (_("Rejected row"), {"fields": ("source_row", "subject", "rule_label", "reason_text", "amount")}),
        (_("Life"), {"fields": LIFE}),
        (_("Raw content"), {"fields": ("content",)}),
    )
    readonly_fields = ("source_row", "rule_label", "reason_text", "content")


@admin.register(Reject)
class RejectAdmin(RejectedContentAdmin):
    """What single runs have rejected."""

    list_display = ("row_id", "table", "rule_label", "reason_text", "run_number", "requested_at")
    list_filter = (RuleFilter, TableFilter, RunFilter, AgeFilter)
    list_select_related = ("run",)
    list_before_template = "console/rejects/export.html"
    fieldsets = (
        (_("Rejected row"), {"fields": ("source_row", "rule_label", "reason_text", "run", "requested_at")}),
        (_("Raw content"), {"fields": ("content",)}),
    )
    readonly_fields = ("source_row", "rule_label", "reason_text", "requested_at", "content")

    def get_urls(self) -> list[Any]:
        export = self.admin_site.admin_view(self.export)
        return [path("csv/", export, name="orchestration_reject_csv"), *super().get_urls()]

    @admin.display(description=_("run"))
    def run_number(self, reject: Reject) -> Any:
        return reject.run_id

    @admin.display(description=_("run requested at"))
    def requested_at(self, reject: Reject) -> str:
        return date_format(timezone.localtime(reject.run.created_at), "j E Y, H:i")

    def export(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """Stream all rows that the list's filters select, with no more than CHUNK_ROWS in memory."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET"])
        try:
            rejects = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect("admin:orchestration_reject_changelist")
        lines = write_csv(rejects.select_related("run"), get_language(), raw=request.user.has_perm(VIEW_RAW))
        headers = {"Content-Disposition": 'attachment; filename="rejects.csv"'}
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


def find_source_page(reject: RejectedContent) -> str:
    """Return the address of the page of the source row, or "" where there is none."""
    models = apps.get_app_config(TABLES[reject.table]).get_models() if reject.table in TABLES else ()
    model = next((model for model in models if model._meta.db_table == reject.table), None)
    if model is None or not reject.row_id.isdecimal():
        return ""
    try:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[reject.row_id])
    except NoReverseMatch:
        return ""


def render_columns(raw: dict[str, Any]) -> SafeString:
    rows = ((name, "NULL" if value is None else value) for name, value in raw.items())
    return format_html("<dl>{}</dl>", format_html_join("", '<dt class="font-semibold">{}</dt><dd class="mb-2 tm-long">{}</dd>', rows))


class LineBuffer:
    """A file for the csv module whose `write` returns the line instead of storing it."""

    def write(self, line: str) -> str:
        return line


def write_csv(rejects: "QuerySet[Reject]", language: str | None, raw: bool) -> Iterator[str]:
    """Yield the lines of the file, with reasons in `language`. The byte order mark tells spreadsheets that it is UTF-8."""
    writer = csv.writer(LineBuffer())
    yield "\ufeff" + writer.writerow(CSV_HEADER)
    for reject in rejects.iterator(chunk_size=CHUNK_ROWS):
        content = json.dumps(reject.raw, ensure_ascii=False) if raw else HIDDEN
        requested_at = reject.run.created_at.isoformat(timespec="seconds")
        with override(language):  # the response is streamed when the request, and its language, may be over
            reason = reject.reason
        cells = (str(reject.run_id), requested_at, reject.table, reject.row_id, reject.rule, reason, content)
        yield writer.writerow([escape_formula(cell) for cell in cells])


def escape_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
