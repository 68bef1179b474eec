"""Read-only admin pages, with personal data only for users who may see it."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ObjectDoesNotExist
from django.core.paginator import Paginator
from django.db.models import CharField, DecimalField, Field, ForeignKey, Model
from django.http import HttpRequest
from django.utils.formats import number_format

from apps.console.unreadable import HIDDEN, CheckingAdmin

# The list shows this many columns of a model that does not choose them itself, and none of these.
MAX_COLUMNS = 8
NEVER_LISTED = ("created_at", "is_inferred", "is_deleted")
# The permission to see personal data and the raw content of rejects, and what is shown without it.
VIEW_RAW = "orchestration.view_raw"


class ReadOnlyAdmin(CheckingAdmin):
    """Nobody may add, change or delete rows here, superusers included. A model names its columns of personal data in `personal`."""

    show_full_result_count = False
    list_per_page = 50
    actions: Any = None
    empty_text: Any = ""  # what an empty list shows; see templates/unfold/helpers/empty_results.html

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
        row = super().get_object(request, object_id, from_field)
        if row is not None and not request.user.has_perm(VIEW_RAW):
            for key in foreign_keys(self.model):
                mask_personal_data(related_row(row, key))
            mask_personal_data(row)
        return row

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

    def may_show(self, request: HttpRequest, field: "Field[Any, Any]") -> bool:
        return self.may_query(request, field.name) and super().may_show(request, field)

    def may_query(self, request: HttpRequest, lookup: Any) -> bool:
        return request.user.has_perm(VIEW_RAW) or str(lookup).split("__")[0] not in personal_columns(self.model)


def make_column(field: "Field[Any, Any]", ordering: str | None) -> Callable[[Model], Any]:
    """Return the column as a function that formats amounts in the active language; without `ordering` Django does not sort by it."""

    @admin.display(description=str(field.verbose_name), ordering=ordering)
    def render(row: Model) -> Any:
        value = getattr(row, field.name)
        return number_format(value, 2, force_grouping=True) if isinstance(value, Decimal) else value

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
