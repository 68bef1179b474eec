"""Read-only pages of the source models, except those with password and token hashes. They ask a live shop for what its indexes answer."""

from typing import Any

from django.apps import apps
from django.db.models import CharField, Field, ForeignKey, Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.paginator import InfinitePaginator

from apps.console.readonly import LargeTableAdmin, foreign_keys, register_read_only
from apps.sources.auth.models import Credential, Token
from apps.sources.service import Service

NEVER_SHOWN = (Credential, Token)
# What an index finds; of texts no `startswith`, which MySQL compares as bytes, past the index.
INDEXED_LOOKUPS = {"exact", "in", "gt", "gte", "lt", "lte", "range", "isnull", "istartswith"}
CHOICE_LOOKUPS = {"exact", "in"}
# One value of these is in a large part of the rows, which a search for any of several columns would sort. A filter reads them in order.
WIDE = ("category", "employee", "parent", "region", "role")
MAX_LISTED_ROWS = 10_000  # to skip rows, a database reads them


class ShallowPaginator(InfinitePaginator):
    """Counts nothing, and has no page after MAX_LISTED_ROWS."""

    count = MAX_LISTED_ROWS


class SourceAdmin(LargeTableAdmin):
    """Sorts by the key alone, and searches and filters by indexed columns; also by those with choices, of which a page soon has enough."""

    paginator = ShallowPaginator
    ordering = ("-id",)
    sortable_by = ("id",)
    search_help_text = _("Id, a number that the row refers to, or the start of an indexed text")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Read the rows that a list refers to by their keys: a join may begin with the smaller table, and sort all rows of the larger."""
        listed = [field.name for field in foreign_keys(self.model) if field.name in self.list_display]
        rows: QuerySet[Any] = super().get_queryset(request).prefetch_related(*listed)
        return rows

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        name, *path = lookup.split("__")
        field = next((field for field in self.opts.concrete_fields if name in (field.name, field.attname)), None)
        if field is not None and not list_lookups(field).issuperset(path or ["exact"]):
            return False
        return super().lookup_allowed(lookup, value, request)


def list_lookups(field: "Field[Any, Any]") -> set[str]:
    """Return the lookups by which the column may be filtered; a key that refers to another row may also be named by its column."""
    if is_indexed(field):
        return INDEXED_LOOKUPS | ({"id"} if isinstance(field, ForeignKey) else set())
    return CHOICE_LOOKUPS if field.choices else set()


def is_indexed(field: Any) -> bool:
    return bool(field.primary_key or field.unique or field.db_index)


def list_searched(model: type[Model]) -> list[str]:
    """Return the indexed columns that a person may type: numbers of rows, and unique texts."""
    fields = [field for field in model._meta.concrete_fields if is_indexed(field) and field.name not in WIDE]
    return [field.name for field in fields if field.primary_key or isinstance(field, CharField | ForeignKey) or field.name.endswith("_id")]


for config in apps.get_app_configs():
    if isinstance(config, Service):
        for model in config.get_models():
            if model not in NEVER_SHOWN:
                register_read_only(model, SourceAdmin, search_fields=list_searched(model), list_select_related=())
