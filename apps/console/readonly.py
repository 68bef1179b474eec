"""Read-only admin pages, with personal data only for users who may see it."""

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import structlog
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.views.main import ERROR_FLAG, ORDER_VAR, PAGE_VAR
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.paginator import Paginator
from django.db import DataError, OperationalError
from django.db.models import CharField, DecimalField, Field, ForeignKey, Model, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import number_format
from unfold.admin import ModelAdmin

log = structlog.get_logger()
# The list shows this many columns of a model that does not choose them itself, and none of these.
MAX_COLUMNS = 8
NEVER_LISTED = ("created_at", "is_inferred", "is_deleted")
# The permission to see personal data and the raw content of rejects, and what is shown without it.
VIEW_RAW = "orchestration.view_raw"
HIDDEN = "•••"
# Of a value that Django cannot read, or of a query that the database cannot answer. An OperationalError only with one of these codes:
# a search whose characters the column's character set lacks.
UNREADABLE_ERRORS = (ValueError, InvalidOperation, OverflowError, TypeError, ValidationError, DataError, OperationalError)
HARMLESS_PARAMETERS = {ORDER_VAR, PAGE_VAR, ERROR_FLAG}  # they ask for no other rows
MYSQL_CANNOT_COMPARE = (1267, 1271, 1300, 1366, 3854, 3988)


class ReadOnlyAdmin(ModelAdmin):
    """Nobody may add, change or delete rows here, superusers included. A model names its columns of personal data in `personal`."""

    show_full_result_count = False
    list_per_page = 50
    actions: Any = None
    empty_text: Any = ""  # what an empty list shows; see templates/unfold/helpers/empty_results.html

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return self.render_or_report(request, lambda: super(ReadOnlyAdmin, self).changelist_view(request, extra_context))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.render_or_report(request, lambda: super(ReadOnlyAdmin, self).changeform_view(request, *args, **kwargs))

    def render_or_report(self, request: HttpRequest, view: Callable[[], HttpResponse]) -> HttpResponse:
        """Show the rows as they are stored where Django cannot read one of their values, and say so where it cannot ask the query.

        SQLite stores anything in a date column, PostgreSQL has infinity and years after 9999; a year or a number in the address may be
        out of every range, and a search may have characters that the table's character set lacks.
        """
        try:
            response = view()
            return response.render() if isinstance(response, TemplateResponse) else response
        except UNREADABLE_ERRORS as error:
            if isinstance(error, OperationalError) and error.args[:1] and error.args[0] not in MYSQL_CANNOT_COMPARE:
                raise
            log.warning("a page cannot show its rows", page=request.path, exc_info=error)
            return self.show_stored_rows(request)

    def show_stored_rows(self, request: HttpRequest) -> HttpResponse:
        """Show the first rows, or that of the page, as texts; none where the address asks for some, which is then what cannot be asked."""
        match = request.resolver_match
        key = match.kwargs.get("object_id") if match else None
        names: list[str] = []
        rows: list[list[str]] = []
        if not set(request.GET) - HARMLESS_PARAMETERS:
            with suppress(*UNREADABLE_ERRORS):
                names, rows = self.read_stored_rows(request, key)
        context = {
            "title": str(self.model._meta.verbose_name_plural).capitalize(),
            "names": names,
            "rows": rows,
            "list_address": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
        }
        page = self.admin_site.each_context(request) | context
        return render(request, "console/stored_rows.html", page, status=200 if rows else 400)

    def read_stored_rows(self, request: HttpRequest, key: str | None) -> tuple[list[str], list[list[str]]]:
        """Return the columns and the texts of the rows; a value that a field cannot read has a mark."""
        fields = list(self.model._meta.concrete_fields)
        texts = {f"text_{number}": Cast(field.attname, TextField()) for number, field in enumerate(fields)}
        found = self.get_queryset(request).order_by().annotate(**texts)
        chosen = found.filter(pk=key) if key is not None else found.order_by("pk")
        may_see = [self.may_query(request, field.name) for field in fields]
        rows = [
            [
                "NULL" if text is None else mark(field, text) if seen else HIDDEN
                for field, text, seen in zip(fields, row, may_see, strict=True)
            ]
            for row in chosen.values_list(*texts)[: self.list_per_page]
        ]
        return [str(field.verbose_name) for field in fields], rows

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **options: Any) -> Any:
        """Return a paginator that counts the few entries of a history, also where the list does not count its rows."""
        paginator = Paginator if queryset.model is LogEntry else self.paginator
        return paginator(queryset, per_page, *args, **options)

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- Personal data: without the permission it is not shown, searched, sorted by, or filtered by in the address ---

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Model | None:
        row: Model | None = super().get_object(request, object_id, from_field)
        if row is None and is_change_page(request) and self.is_stored(request, object_id):
            raise ValueError(object_id)  # Django takes a row with a value that it cannot read for none
        if row is not None and not request.user.has_perm(VIEW_RAW):
            for key in foreign_keys(self.model):
                mask_personal_data(related_row(row, key))
            mask_personal_data(row)
        return row

    def is_stored(self, request: HttpRequest, key: str) -> bool:
        with suppress(*UNREADABLE_ERRORS):
            return bool(self.get_queryset(request).filter(pk=key).exists())
        return False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        if not request.user.has_perm(VIEW_RAW):
            for row in page.result_list:
                mask_personal_data(row)
                for key in foreign_keys(self.model):
                    mask_personal_data(related_row(row, key) if key.is_cached(row) else None)
        return page

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [name for name in self.search_fields if self.may_query(request, name)]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [self.column(request, name) for name in super().get_list_display(request)]

    def column(self, request: HttpRequest, name: Any) -> Any:
        field = {field.name: field for field in self.model._meta.concrete_fields}.get(name)
        if field is None or (self.may_query(request, name) and not isinstance(field, DecimalField)):
            return name
        return make_column(field, name if self.may_query(request, name) else None)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return self.may_query(request, lookup) and bool(super().lookup_allowed(lookup, value, request))

    def may_query(self, request: HttpRequest, lookup: Any) -> bool:
        return request.user.has_perm(VIEW_RAW) or str(lookup).split("__")[0] not in personal_columns(self.model)


def is_change_page(request: HttpRequest) -> bool:
    return bool(request.resolver_match and str(request.resolver_match.url_name).endswith("_change"))


def mark(field: "Field[Any, Any]", text: str) -> str:
    """Return the text, with a mark where it is no value of the field."""
    try:
        value = field.to_python(text)
        readable = not isinstance(value, Decimal) or value.is_finite()
    except (ValidationError, ValueError, OverflowError, InvalidOperation):
        readable = False
    return text if readable else f"⚠ {text}"


def make_column(field: "Field[Any, Any]", ordering: str | None) -> Callable[[Model], Any]:
    """Return the column as a function that formats amounts in the active language; without `ordering` Django does not sort by it."""

    @admin.display(description=str(field.verbose_name), ordering=ordering)
    def render(row: Model) -> Any:
        value = getattr(row, field.name)
        return number_format(value, 2, force_grouping=True) if isinstance(value, Decimal) and value.is_finite() else value

    return render


def personal_columns(model: type[Model]) -> tuple[str, ...]:
    return getattr(model, "personal", ())


def mask_personal_data(row: Model | None) -> None:
    """Hide personal data in memory; a read-only page never saves the row."""
    for name in personal_columns(type(row)) if row else ():
        if getattr(row, name):
            setattr(row, name, HIDDEN)


def foreign_keys(model: type[Model]) -> "list[ForeignKey[Any, Any]]":
    return [field for field in model._meta.concrete_fields if isinstance(field, ForeignKey)]


def related_row(row: Model, key: "ForeignKey[Any, Any]") -> Model | None:
    """Return the row that `key` refers to, or None where a source has deleted it."""
    try:
        found: Model | None = getattr(row, key.name)
    except ObjectDoesNotExist:
        return None
    return found


def register_read_only(model: type[Model], base: type[ReadOnlyAdmin] = ReadOnlyAdmin, **chosen: Any) -> None:
    """Register a page that lists the first columns of the model, searches its text and joins the listed foreign keys."""
    fields: list[Field[Any, Any]] = sorted(model._meta.concrete_fields, key=lambda field: (not field.primary_key, field.name == "run_id"))
    listed = chosen.get("list_display") or [field.name for field in fields if field.name not in NEVER_LISTED][:MAX_COLUMNS]
    options = {
        "list_display": listed,
        "list_select_related": [field.name for field in foreign_keys(model) if field.name in listed],
        "search_fields": [field.name for field in fields if isinstance(field, CharField)],
        "list_filter": [field.name for field in fields if field.choices],
    }
    admin.site.register(model, type(f"{model.__name__}Admin", (base,), options | chosen))
