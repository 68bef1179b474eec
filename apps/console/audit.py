"""The page of the audit log: who did what, with filters and exports."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from apps.audit.models import ActorKind, Deed, Entry
from apps.console.export import ExportAdmin, spell_instant
from techmarket.formats import shorten

MAX_CHANGE_LENGTH = 80  # in the list
SHOWN_BY = {"previous_hash": "previous", "hash": "own"}
COLOURS = dict.fromkeys(Deed, "default") | {
    Deed.LOGIN_FAILED: "warning",
    Deed.SEAL_BROKEN: "danger",
    Deed.AUDIT_DELETED: "warning",
    Deed.USER_DELETED: "danger",
    Deed.SUPERUSER_GRANTED: "warning",
}


@admin.register(Entry)
class EntryAdmin(ExportAdmin):
    """Never counts the entries, and sorts them by number alone."""

    ordering = ("-number",)
    sortable_by = ()
    paginator = InfinitePaginator
    list_display = ("number", "at", "person", "coloured_deed", "object_name", "change", "reason")
    list_filter = ("deed", "actor_kind", "at")
    search_fields = ("=actor", "=object_id", "=object_name", "=address", "=request_id")
    search_help_text = _("Person, object, its id, address or request id, as it is written")
    date_hierarchy = "at"
    empty_text = _("Deeds appear here: logins, runs, exports, and changes of users, groups and schedules.")
    export_name = "audit"
    export_header = tuple(field.name for field in Entry._meta.concrete_fields)

    def get_fields(self, request: HttpRequest, obj: Entry | None = None) -> list[str]:
        """Return the columns that have a value; hashes by functions, which let them break on a phone."""
        return [SHOWN_BY.get(name, name) for name in self.export_header if getattr(obj, name, None)]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [*super().get_readonly_fields(request, obj), *SHOWN_BY.values()]

    def export_cells(self, row: Entry) -> Sequence[object]:
        return [spell(getattr(row, name)) for name in self.export_header]

    @display(description=_("person"), header=True)
    def person(self, entry: Entry) -> Any:
        return entry.actor or "–", entry.address or (ActorKind(entry.actor_kind).label if entry.actor_kind != ActorKind.USER else "")

    @display(description=_("deed"), label=COLOURS)
    def coloured_deed(self, entry: Entry) -> Any:
        return entry.deed, entry.get_deed_display()

    @admin.display(description=_("change"))
    def change(self, entry: Entry) -> str:
        """Return the values before and after, where there are some."""
        return " → ".join(shorten(describe_values(each), MAX_CHANGE_LENGTH) for each in (entry.before, entry.after) if each)

    @admin.display(description=_("hash of the entry before"))
    def previous(self, entry: Entry) -> SafeString:
        return format_html('<span class="tm-long">{}</span>', entry.previous_hash)

    @admin.display(description=_("hash of the entry"))
    def own(self, entry: Entry) -> SafeString:
        return format_html('<span class="tm-long">{}</span>', entry.hash)


def describe_values(values: Mapping[str, Any]) -> str:
    """Return a JSON object as a person writes it: name: value, name: value."""
    return ", ".join(f"{name}: {describe_value(value)}" for name, value in values.items())


def describe_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"({describe_values(value)})"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def spell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return spell_instant(value) if hasattr(value, "isoformat") else value
