"""Rejected rows: what broke a rule, and why. Raw content is for those who may see it, on the pages and in the file."""

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
from django.utils.translation import gettext_lazy as _
from unfold.paginator import InfinitePaginator

from apps.console.readonly import HIDDEN, RAW, ReadOnlyAdmin
from apps.etl.tables import SOURCES
from apps.orchestration.models import Reject, Run
from techmarket.messages import translate

RULES = {
    "bad_date": _("no date, or none that exists"),
    "bad_flag": _("neither 0 nor 1"),
    "bad_money": _("no amount, or one out of bounds"),
    "bad_quantity": _("quantity out of bounds"),
    "bad_text": _("no UTF-8, or too long"),
    "date_out_of_range": _("date out of range"),
    "discount_over_gross": _("discount above the price"),
    "duplicate": _("the same key twice"),
    "missing_customer": _("no customer"),
    "missing_date": _("no date"),
    "missing_order": _("no order"),
    "missing_value": _("an empty column"),
    "negative_discount": _("negative discount"),
    "negative_price": _("negative price"),
    "not_whole": _("no whole number"),
    "order_rejected": _("its order is rejected"),
    "unknown_method": _("unknown payment method"),
    "unknown_role": _("unknown role"),
    "unknown_status": _("unknown status"),
}
TABLES = {source.table: source.alias for source in SOURCES.values()}
AGES = (("1", _("the last day")), ("7", _("the last 7 days")), ("30", _("the last 30 days")), ("older", _("older than 30 days")))
RECENT, OFFERED = 200, 10  # runs that are looked at for rejects, and of them those that the filter names
CHUNK = 2_000  # rows that the file fetches at a time
# A spreadsheet takes a cell that begins so for a formula; full-width forms too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
HEADER = ("run", "asked_at", "table", "row_id", "rule", "reason", "raw")


class Declared(SimpleListFilter):
    """Choices that are known without asking millions of rows for them."""

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(**{self.parameter_name or "": self.value()}) if self.value() else queryset


class RuleFilter(Declared):
    title, parameter_name = _("rule"), "rule__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return sorted(RULES.items(), key=lambda each: str(each[1]))


class TableFilter(Declared):
    title, parameter_name = _("table"), "table__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(table, f"{TABLES[table]}.{table}") for table in sorted(TABLES)]


class RunFilter(Declared):
    """The latest runs that rejected something; any other by its number in the address."""

    title, parameter_name = _("run"), "run__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        latest = Run.objects.values_list("pk", flat=True).first() or 0
        runs = Run.objects.filter(Exists(Reject.objects.filter(run=OuterRef("pk"))), pk__gt=latest - RECENT)
        numbers = [str(number) for number in runs.values_list("pk", flat=True)[:OFFERED]]
        asked = request.GET.get("run__exact", "")
        return [(number, number) for number in ([asked] if asked.isdecimal() and asked not in numbers else []) + numbers]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        value = self.value()
        if value and not (value.isascii() and value.isdecimal() and len(value) < 19):
            raise IncorrectLookupParameters
        return super().queryset(request, queryset)


class AgeFilter(SimpleListFilter):
    """By when the run was asked for: runs are few, and what they rejected has their numbers."""

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


@admin.register(Reject)
class RejectAdmin(ReadOnlyAdmin):
    """A dirty source has millions: nothing here counts them, or sorts them otherwise than as they came."""

    list_display = ("row_id", "table", "broken", "why", "number", "asked_at")
    list_filter = (RuleFilter, TableFilter, RunFilter, AgeFilter)
    list_select_related = ("run",)
    list_before_template = "console/rejects/rejects.html"
    ordering = ("-id",)
    sortable_by = ()
    paginator = InfinitePaginator
    search_fields = ("row_id__exact",)
    search_help_text = _("the source's id")
    fieldsets = (
        (_("What broke a rule"), {"fields": ("place", "broken", "why", "run", "asked_at")}),
        (_("The row as it stands"), {"fields": ("content",)}),
    )
    readonly_fields = ("place", "broken", "why", "asked_at", "content")

    def get_urls(self) -> list[Any]:
        file = self.admin_site.admin_view(self.file)
        return [path("csv/", file, name="orchestration_reject_csv"), *super().get_urls()]

    @admin.display(description=_("rule"))
    def broken(self, reject: Reject) -> Any:
        return RULES.get(reject.rule, reject.rule)

    @admin.display(description=_("reason"))
    def why(self, reject: Reject) -> str:
        return translate(reject.reason)

    @admin.display(description=_("run"))
    def number(self, reject: Reject) -> Any:
        return reject.run_id

    @admin.display(description=_("run asked for"))
    def asked_at(self, reject: Reject) -> str:
        return date_format(timezone.localtime(reject.run.created_at), "j M Y, H:i")

    @admin.display(description=_("row"))
    def place(self, reject: Reject) -> Any:
        """Where the row stands in its source, with its page there."""
        said = f"{TABLES.get(reject.table, '')}.{reject.table} {reject.row_id}".lstrip(".")
        page = source_page(reject)
        return format_html('<a class="tm-link" href="{}">{}</a>', page, said) if page else said

    @admin.display(description=_("columns"))
    def content(self, reject: Reject) -> Any:
        return columns(reject.raw) if isinstance(reject.raw, dict) else reject.raw

    def file(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """What the list shows with its filters, all of it, row by row: a file of any length in the memory of one chunk."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET"])
        try:
            rejects = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect("admin:orchestration_reject_changelist")
        lines = written(rejects.select_related("run"), raw=request.user.has_perm(RAW))
        headers = {"Content-Disposition": 'attachment; filename="rejects.csv"'}
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


def source_page(reject: Reject) -> str:
    """The address of the row's page; empty where the source has none."""
    models = apps.get_app_config(TABLES[reject.table]).get_models() if reject.table in TABLES else ()
    model = next((model for model in models if model._meta.db_table == reject.table), None)
    if model is None or not reject.row_id.isdecimal():
        return ""
    try:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[reject.row_id])
    except NoReverseMatch:
        return ""


def columns(raw: dict[str, Any]) -> SafeString:
    rows = ((name, "NULL" if value is None else value) for name, value in raw.items())
    return format_html("<dl>{}</dl>", format_html_join("", '<dt class="font-semibold">{}</dt><dd class="mb-2 tm-long">{}</dd>', rows))


class Line:
    """A file for the csv module that gives back each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def written(rejects: "QuerySet[Reject]", raw: bool) -> Iterator[str]:
    """The lines of the file; the mark at its beginning tells spreadsheets that it is UTF-8."""
    writer = csv.writer(Line())
    yield "\ufeff" + writer.writerow(HEADER)
    for reject in rejects.iterator(chunk_size=CHUNK):
        content = json.dumps(reject.raw, ensure_ascii=False) if raw else HIDDEN
        asked_at = reject.run.created_at.isoformat(timespec="seconds")
        cells = (str(reject.run_id), asked_at, reject.table, reject.row_id, reject.rule, reject.reason, content)
        yield writer.writerow([harmless(cell) for cell in cells])


def harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
