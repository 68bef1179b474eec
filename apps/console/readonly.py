"""Read-only admin pages, with personal data only for users who may see it."""

from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.paginator import Paginator
from django.db.models import CharField, DecimalField, Field, ForeignKey, IntegerField, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.formats import number_format
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from apps.console.personal import VIEW_RAW, personal_columns
from apps.console.unreadable import CheckingAdmin
from apps.etl.slices import parse_integer

# The list shows this many columns of a model that does not choose them itself, and none of these.
MAX_COLUMNS = 8
NEVER_LISTED = ("created_at", "is_inferred", "is_deleted")


class SortedList(ChangeList):
    """A list that an address sorts by no other column than its headers do: Django asks `sortable_by` for the headers alone."""

    def get_ordering_field(self, field_name: Any) -> Any:
        sortable = self.model_admin.sortable_by
        return super().get_ordering_field(field_name) if sortable is None or field_name in sortable else None


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

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SortedList

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- Personal data, which rows hide themselves: without the permission it is not searched, sorted by, or filtered by either ---

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


class LargeTableAdmin(ReadOnlyAdmin):
    """Pages that never count the rows, of which there may be millions, and search them by an index.

    `search_fields` names columns that have one: a whole number is looked for in those of numbers, the start of a text in those of texts.
    Django's own searches compare numbers as texts, which reads all rows.
    """

    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER

    def get_search_results(self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str) -> tuple["QuerySet[Any]", bool]:
        fields = [self.opts.get_field(name) for name in self.get_search_fields(request)]
        term = search_term.strip()
        if not (fields and term):
            return queryset, False
        numbers = [(field.attname, term) for field in fields if holds_numbers(field) and parse_integer(term) is not None]
        texts = [(f"{field.attname}__istartswith", term) for field in fields if isinstance(field, CharField)]
        conditions = [Q(condition) for condition in numbers + texts]
        return queryset.filter(reduce(or_, conditions)) if conditions else queryset.none(), False


def make_column(field: "Field[Any, Any]", ordering: str | None) -> Callable[[Model], Any]:
    """Return the column as a function that formats amounts in the active language; without `ordering` Django does not sort by it."""

    @admin.display(description=str(field.verbose_name), ordering=ordering)
    def render(row: Model) -> Any:
        value = getattr(row, field.name)
        return number_format(value, 2, force_grouping=True) if isinstance(value, Decimal) else value

    return render


def holds_numbers(field: Any) -> bool:
    return isinstance(field.target_field if isinstance(field, ForeignKey) else field, IntegerField)


def foreign_keys(model: type[Model]) -> "list[ForeignKey[Any, Any]]":
    return [field for field in model._meta.concrete_fields if isinstance(field, ForeignKey)]


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
