"""The pages and the exports of rejected rows. Only users with view_raw see the raw content."""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from unfold.paginator import InfinitePaginator

from apps.console.export import ExportAdmin, spell_instant
from apps.console.personal import HIDDEN
from apps.console.rejects.actions import RejectActionsAdmin
from apps.etl.slices import parse_integer
from apps.etl.tables import ORDERS, SOURCES
from apps.etl.transform.rules import RULES, render_label
from apps.orchestration import clock
from apps.orchestration.models import Reject, RejectedContent, RejectState, Run, StandingReject
from apps.orchestration.standing import COLUMNS, to_cells

ORDER_REJECTED = "order_rejected"
TABLES = {source.table: source.alias for source in SOURCES.values()}
AGES = (("1", _("Last 24 hours")), ("7", _("Last 7 days")), ("30", _("Last 30 days")), ("older", _("Older than 30 days")))
RECENT_RUNS, OFFERED_RUNS = 200, 10  # the filter offers so many of the recent runs that have rejects


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
        since = clock.now() - timedelta(days=30 if older else int(self.value() or 0))
        first = Run.objects.filter(created_at__gte=since).order_by("pk").values_list("pk", flat=True).first()
        if first is None:
            return queryset if older else queryset.none()
        return queryset.filter(run__lt=first) if older else queryset.filter(run__gte=first)


class RejectedContentAdmin(ExportAdmin):
    """Pages that never count the rejects and only sort them by id, because a dirty source has millions."""

    ordering = ("-id",)
    sortable_by = ()
    paginator = InfinitePaginator
    search_fields = ("row_id__exact",)
    search_help_text = _("Row id in the source")
    empty_text = _("Rows that break a rule appear here after a run, with the rule and their raw content.")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        find_order_rejects(page.result_list)
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Model | None:
        reject = super().get_object(request, object_id, from_field)
        find_order_rejects([reject] if isinstance(reject, RejectedContent) else [])
        return reject

    @admin.display(description=_("rule"))
    def rule_label(self, reject: RejectedContent) -> Any:
        """Return the rule; of a line that was rejected with its order, also a link to the order's reject."""
        order = getattr(reject, "order_reject", None)
        if order is None:
            return reject.label
        page = reverse(f"admin:orchestration_{reject._meta.model_name}_change", args=[order.pk])
        text = gettext("Order %(number)s") % {"number": order.row_id}
        return format_html('{} · <a class="tm-link" href="{}">{}</a>', reject.label, page, text)

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
class StandingRejectAdmin(RejectActionsAdmin, RejectedContentAdmin):
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
    export_name = "standing_rejects"
    export_header = (*COLUMNS, "raw")

    def export_cells(self, row: StandingReject) -> Sequence[object]:
        return [*to_cells(row), spell_raw(row)]


@admin.register(Reject)
class RejectAdmin(RejectedContentAdmin):
    """What single runs have rejected."""

    list_display = ("row_id", "table", "rule_label", "reason_text", "run_number", "requested_at")
    list_filter = (RuleFilter, TableFilter, RunFilter, AgeFilter)
    list_select_related = ("run",)
    fieldsets = (
        (_("Rejected row"), {"fields": ("source_row", "rule_label", "reason_text", "run", "requested_at")}),
        (_("Raw content"), {"fields": ("content",)}),
    )
    readonly_fields = ("source_row", "rule_label", "reason_text", "requested_at", "content")
    export_name = "rejects"
    export_header = ("run", "requested_at", "table", "row_id", "rule", "reason", "raw")

    def export_cells(self, row: Reject) -> Sequence[object]:
        return row.run_id, spell_instant(row.run.created_at), row.table, row.row_id, row.rule, row.reason, spell_raw(row)

    @admin.display(description=_("run"))
    def run_number(self, reject: Reject) -> Any:
        return reject.run_id

    @admin.display(description=_("run requested at"))
    def requested_at(self, reject: Reject) -> str:
        return date_format(timezone.localtime(reject.run.created_at), "j E Y, H:i")


def find_order_rejects(rejects: Iterable[RejectedContent]) -> None:
    """Set `order_reject` of the lines among `rejects` that were rejected with their orders: the order's reject, in the same run."""
    lines = [reject for reject in rejects if reject.rule == ORDER_REJECTED]
    if not lines:
        return
    where: dict[str, Any] = {"table": ORDERS.table, "row_id__in": {str(line.slice_id) for line in lines}}
    latest = "last_run"  # an order may have broken another rule before
    if isinstance(lines[0], Reject):
        where["run__in"] = {get_run(line) for line in lines}
        latest = "pk"
    found = type(lines[0])._default_manager.filter(**where).defer("raw").order_by(latest)
    orders = {(get_run(order), order.row_id): order for order in found}
    for line in lines:
        line.order_reject = orders.get((get_run(line), str(line.slice_id)))  # type: ignore[attr-defined]


def get_run(reject: RejectedContent) -> int | None:
    """Return the run that rejected the row; a standing reject is of no single run."""
    return reject.run_id if isinstance(reject, Reject) else None


def find_source_page(reject: RejectedContent) -> str:
    """Return the address of the page of the source row, or "" where there is none."""
    models = apps.get_app_config(TABLES[reject.table]).get_models() if reject.table in TABLES else ()
    model = next((model for model in models if model._meta.db_table == reject.table), None)
    if model is None or parse_integer(reject.row_id) is None:
        return ""
    try:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[reject.row_id])
    except NoReverseMatch:
        return ""


def render_columns(raw: dict[str, Any]) -> SafeString:
    rows = ((name, "NULL" if value is None else value) for name, value in raw.items())
    return format_html("<dl>{}</dl>", format_html_join("", '<dt class="font-semibold">{}</dt><dd class="mb-2 tm-long">{}</dd>', rows))


def spell_raw(reject: RejectedContent) -> str:
    return HIDDEN if reject.raw is HIDDEN else json.dumps(reject.raw, ensure_ascii=False)
