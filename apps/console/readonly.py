"""The admin as a window: everything to look at, nothing to touch; and personal data only for those who may see it."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import CharField, DecimalField, Field, ForeignKey, Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

# Columns of a list that a model does not choose itself.
COLUMNS = 8
UNLISTED = ("created_at", "is_inferred", "is_deleted")
# The right to see personal data and the raw content of rejects, and what stands in their place without it.
RAW = "orchestration.view_raw"
HIDDEN = "•••"


class ReadOnlyAdmin(ModelAdmin):
    """Nobody adds, changes or deletes here, superusers included. A model names its columns of personal data in `personal`."""

    show_full_result_count = False
    list_per_page = 50
    actions: Any = None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return self.shown(request, lambda: super(ReadOnlyAdmin, self).changelist_view(request, extra_context))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.shown(request, lambda: super(ReadOnlyAdmin, self).changeform_view(request, *args, **kwargs))

    def shown(self, request: HttpRequest, view: Callable[[], HttpResponse]) -> HttpResponse:
        """SQLite keeps a zero date in a column of dates, which Django cannot read: then a message instead of the page."""
        try:
            response = view()
            return response.render() if isinstance(response, TemplateResponse) else response
        except (ValueError, InvalidOperation) as error:
            said = _("Some of the %(rows)s hold a value that cannot be shown (%(error)s). The rejects have it as it stands.")
            messages.error(request, said % {"rows": self.model._meta.verbose_name_plural, "error": error})
            return redirect("admin:index")

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- Personal data: neither shown, nor found, nor sorted by, nor guessed at with a filter of the address ---

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Model | None:
        row: Model | None = super().get_object(request, object_id, from_field)
        if row is not None and not request.user.has_perm(RAW):
            for reference in references(self.model):
                mask(referred(row, reference))
            mask(row)
        return row

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        if not request.user.has_perm(RAW):
            for row in page.result_list:
                mask(row)
                for reference in references(self.model):
                    mask(referred(row, reference) if reference.is_cached(row) else None)
        return page

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [name for name in self.search_fields if self.may_ask(request, name)]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [self.column(request, name) for name in super().get_list_display(request)]

    def column(self, request: HttpRequest, name: Any) -> Any:
        field = {field.name: field for field in self.model._meta.concrete_fields}.get(name)
        if field is None or (self.may_ask(request, name) and not isinstance(field, DecimalField)):
            return name
        return column(field, name if self.may_ask(request, name) else None)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return self.may_ask(request, lookup) and bool(super().lookup_allowed(lookup, value, request))

    def may_ask(self, request: HttpRequest, lookup: Any) -> bool:
        return request.user.has_perm(RAW) or str(lookup).split("__")[0] not in personal(self.model)


def column(field: "Field[Any, Any]", ordering: str | None) -> Callable[[Model], Any]:
    """The column as a function: amounts with the separators of the language; and Django sorts by none that does not say how."""

    @admin.display(description=str(field.verbose_name), ordering=ordering)
    def shown(row: Model) -> Any:
        value = getattr(row, field.name)
        return number_format(value, 2, force_grouping=True) if isinstance(value, Decimal) else value

    return shown


def personal(model: type[Model]) -> tuple[str, ...]:
    return getattr(model, "personal", ())


def mask(row: Model | None) -> None:
    """In memory alone: nothing here is ever saved."""
    for name in personal(type(row)) if row else ():
        if getattr(row, name):
            setattr(row, name, HIDDEN)


def references(model: type[Model]) -> "list[ForeignKey[Any, Any]]":
    return [field for field in model._meta.concrete_fields if isinstance(field, ForeignKey)]


def referred(row: Model, reference: "ForeignKey[Any, Any]") -> Model | None:
    """What a source refers to may be gone."""
    try:
        found: Model | None = getattr(row, reference.name)
    except ObjectDoesNotExist:
        return None
    return found


def show(model: type[Model], base: type[ReadOnlyAdmin] = ReadOnlyAdmin, **chosen: Any) -> None:
    """Register a model as its columns declare it: the first of them listed, its text searched, what it refers to fetched along."""
    fields: list[Field[Any, Any]] = sorted(model._meta.concrete_fields, key=lambda field: (not field.primary_key, field.name == "run_id"))
    listed = chosen.get("list_display") or [field.name for field in fields if field.name not in UNLISTED][:COLUMNS]
    options = {
        "list_display": listed,
        "list_select_related": [field.name for field in references(model) if field.name in listed],
        "search_fields": [field.name for field in fields if isinstance(field, CharField)],
        "list_filter": [field.name for field in fields if field.choices],
    }
    admin.site.register(model, type(f"{model.__name__}Admin", (base,), options | chosen))
