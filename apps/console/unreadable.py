"""What a page answers where a value cannot be read or a query cannot be asked: the rows as they are stored, or a refusal, never a 500.

SQLite stores anything in a date column, MySQL has zero dates, PostgreSQL has NaN, infinity and dates before the year 1, JSON has null; a
number, a date or a text in an address or a form may be one that the column, its character set or its range lacks.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import batched
from typing import Any

import structlog
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DataError, NotSupportedError, OperationalError, connections
from django.db.models import (
    BooleanField,
    DateField,
    DateTimeField,
    DecimalField,
    Field,
    IntegerField,
    JSONField,
    Model,
    QuerySet,
    TextField,
)
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.defaults import bad_request
from unfold.admin import ModelAdmin

from apps.console.personal import HIDDEN

log = structlog.get_logger()
MARK = "⚠"
NULL = "NULL"
NOT_FINITE = ("NaN", "Infinity", "-Infinity")  # PostgreSQL's numbers that Decimal has, too
# What may follow a column's name in an address; of Django's lookups all but `regex` and `iregex`, and `range`, whose value Django's lists
# take for one letter after the other: of other than two, the database says that the query is a mistake.
LOOKUPS = {"exact", "iexact", "in", "gt", "gte", "lt", "lte", "isnull"} | {
    f"{prefix}{name}" for prefix in ("", "i") for name in ("contains", "startswith", "endswith")
}
# Of a value that Django cannot read, or of a query that the database cannot answer.
UNREADABLE_ERRORS = (
    ValueError,
    InvalidOperation,
    OverflowError,
    TypeError,
    ValidationError,
    FieldDoesNotExist,  # of `_to_field=`
    IncorrectLookupParameters,  # a filter or a page that the list has not
    DataError,
    NotSupportedError,  # of a lookup that this database lacks, as `contains` in a JSON column of SQLite
    OperationalError,  # with one of the codes below alone
    AttributeError,  # of SQLite's converter alone, to which a text that looks like no instant is None
)
# A search with characters that the column's character set lacks.
MYSQL_CANNOT_COMPARE = (1267, 1271, 1300, 1366, 3854, 3988)
# Their drivers return None for a date that they cannot read.
SILENT_VENDORS = ("sqlite", "mysql")


class UnreadableValue(ValueError):
    """A row has a value that the page would show as another one, or not at all."""


class UnknownFilter(ValueError):
    """The address names a filter or a page that the list does not have. Django would show all rows, as if nothing had been asked."""


class UnreadableMiddleware:
    """Answers for the views of the admin that meet such a value."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not is_unreadable(error) or not request.path.startswith(reverse("admin:index")):
            return None
        trace = None if isinstance(error, UnknownFilter) else error  # whatever else it is may be a fault of ours
        log.warning("a page cannot read a value, or ask its query", page=request.path, cause=str(error), exc_info=trace)
        with suppress(*UNREADABLE_ERRORS):
            if page := find_admin(request):
                return show_stored_rows(page, request)
        return bad_request(request, error)


class CheckingAdmin(ModelAdmin):
    """Pages that show no row as readable that is not: of its values, or as a row that does not exist."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Model | None:
        row: Model | None = super().get_object(request, object_id, from_field)
        if row is None and is_stored(self.get_queryset(request), object_id):
            raise UnreadableValue(object_id)  # Django takes a row with a value that it cannot read for none
        check_rows([row] if row else [])
        return row

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            page = super().get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            raise UnknownFilter(str(error)) from error
        check_rows(page.result_list)
        return page

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return True for a filter in the address that the list may have: a regular expression could occupy a live source for minutes."""
        last = lookup.split("__")[-1]
        return (last in LOOKUPS or last not in Field.get_class_lookups()) and bool(super().lookup_allowed(lookup, value, request))

    def may_show(self, request: HttpRequest, field: "Field[Any, Any]") -> bool:
        """Return True if the user may see the column as it is stored; nobody may see the hash of a password."""
        return field.name != "password"


def is_unreadable(error: BaseException) -> bool:
    if isinstance(error, OperationalError):
        return error.args[:1] != () and error.args[0] in MYSQL_CANNOT_COMPARE
    if isinstance(error, AttributeError):
        return error.obj is None and error.name == "utcoffset"
    return isinstance(error, UNREADABLE_ERRORS)


# --- The rows as they are stored ---


def find_admin(request: HttpRequest) -> "CheckingAdmin | None":
    """Return the pages of the model whose list or row is asked for, if the user may view them."""
    match = request.resolver_match
    page = getattr(match.func, "model_admin", None) if match else None
    is_list = match is not None and str(match.url_name).endswith("_changelist")
    if not isinstance(page, CheckingAdmin) or request.method not in ("GET", "HEAD"):
        return None
    shown = (is_list or "object_id" in request.resolver_match.kwargs) and page.has_view_permission(request)  # type: ignore[union-attr]
    return page if shown and page.admin_site.has_permission(request) else None


def show_stored_rows(page: CheckingAdmin, request: HttpRequest) -> HttpResponse:
    """Show the row, or those that the list's filters and page select, as texts; where they cannot be asked for, say so."""
    key = request.resolver_match.kwargs.get("object_id") if request.resolver_match else None
    fields = list(page.model._meta.concrete_fields)
    rows: list[list[str]] = []
    with suppress(*UNREADABLE_ERRORS):
        found = find_row(page.get_queryset(request), unquote(key)) if key is not None else find_listed(page, request)
        shown = [page.may_show(request, field) for field in fields]
        rows = [
            [spell(field, text) if seen else HIDDEN for field, text, seen in zip(fields, row, shown, strict=True)]
            for row in read_texts(found)
        ]
    context = {
        "title": str(page.model._meta.verbose_name_plural).capitalize(),
        "names": [str(field.verbose_name) for field in fields],
        "rows": rows,
        "has_mark": any(cell.startswith(MARK) for row in rows for cell in row),
        "list_address": reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist"),
    }
    status = 200 if rows else 400
    return render(request, "console/stored_rows.html", page.admin_site.each_context(request) | context, status=status)


def find_listed(page: CheckingAdmin, request: HttpRequest) -> "QuerySet[Any]":
    """Return the rows of the list's page, in its order, without reading them."""
    listed = ModelAdmin.get_changelist_instance(page, request)
    start = (listed.page_num - 1) * listed.list_per_page
    rows: QuerySet[Any] = listed.queryset
    return annotate_texts(rows)[start : start + listed.list_per_page]


def find_row(rows: "QuerySet[Any]", key: str) -> "QuerySet[Any]":
    """Return the row with this key, which may be a date that cannot be read."""
    texts = annotate_texts(rows.order_by())
    try:
        return texts.filter(pk=key)
    except UNREADABLE_ERRORS:
        names = {field.attname: name for name, field in name_texts(rows.model)}
        return texts.filter(**{names[rows.model._meta.pk.attname]: key})


def name_texts(model: type[Model]) -> Iterator[tuple[str, "Field[Any, Any]"]]:
    return ((f"text_{number}", field) for number, field in enumerate(model._meta.concrete_fields))


def annotate_texts(rows: "QuerySet[Any]") -> "QuerySet[Any]":
    texts: QuerySet[Any] = rows.annotate(**{name: Cast(field.attname, TextField()) for name, field in name_texts(rows.model)})
    return texts


def read_texts(rows: "QuerySet[Any]") -> Iterator[tuple[str | None, ...]]:
    """Yield the columns of rows with texts as the database spells them."""
    return rows.prefetch_related(None).values_list(*(name for name, _field in name_texts(rows.model))).iterator()


def is_stored(rows: "QuerySet[Any]", key: str) -> bool:
    with suppress(*UNREADABLE_ERRORS):
        return bool(find_row(rows, key).exists())
    return False


# --- Which value is one ---


def spell(field: "Field[Any, Any]", text: str | None) -> str:
    """Return the text, with a mark where it is no value of the field that a page can show."""
    if text is None:
        return NULL
    return text if is_spelled(field, text) else f"{MARK} {text}"


def is_spelled(field: "Field[Any, Any]", text: str) -> bool:
    spelled = text.capitalize() if isinstance(field, BooleanField) else text  # PostgreSQL writes `true`
    try:
        return is_readable(field, json.loads(text) if has_json_type(field) else field.to_python(spelled))
    except UNREADABLE_ERRORS:
        return False


def is_readable(field: "Field[Any, Any]", value: Any) -> bool:
    """Return True if the value is of the field's type and a page can show it; None is, as far as the value tells, but for JSON."""
    if value is HIDDEN:
        return True
    if has_json_type(field):
        return isinstance(value, field.default)  # a page asks a list or an object for its parts; JSON's null reads as None
    if value is None:
        return True
    if isinstance(field, DecimalField):
        return isinstance(value, Decimal) and value.is_finite()
    if isinstance(field, DateTimeField):
        return isinstance(value, datetime) and is_local(value)
    if isinstance(field, DateField):
        return isinstance(value, date)
    return isinstance(value, int) if isinstance(field, IntegerField) else True


def has_json_type(field: "Field[Any, Any]") -> bool:
    """Return True for a column with JSON that is always a list, or always an object."""
    return isinstance(field, JSONField) and field.default in (dict, list)


def is_local(instant: datetime) -> bool:
    """Return True if the shop's calendar has the instant: it has not where it is of the last hours of the year 9999."""
    try:
        timezone.localtime(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    except (OverflowError, ValueError):
        return False
    return True


def check_rows(rows: Iterable[Any]) -> None:
    """Raise UnreadableValue for a row with a value that is not one of its column."""
    silent: dict[type[Model], list[Any]] = {}
    for row in (row for row in rows if isinstance(row, Model)):
        deferred = row.get_deferred_fields()
        values = [(field, row.__dict__.get(field.attname)) for field in row._meta.concrete_fields if field.attname not in deferred]
        if not all(is_readable(field, value) for field, value in values):
            raise UnreadableValue(row.pk)
        if any(value is None and isinstance(field, DateField) for field, value in values):
            silent.setdefault(type(row), []).append(row.pk)
    for model, keys in silent.items():
        check_missing_dates(model, keys)


def check_missing_dates(model: type[Model], keys: list[Any]) -> None:
    """Raise UnreadableValue where a date that was read as None is stored as something else."""
    rows = model._default_manager.filter(pk__in=keys).order_by()
    if connections[rows.db].vendor not in SILENT_VENDORS:
        return
    dates = {name: field for name, field in name_texts(model) if isinstance(field, DateField)}
    for row in annotate_texts(rows).values(*dates):
        for name, text in row.items():
            if text is not None and not is_spelled(dates[name], text):
                raise UnreadableValue(text)


# --- Many rows, of which some cannot be read ---


def read_rows(rows: "QuerySet[Any]", chunk_rows: int) -> Iterator[Any]:
    """Yield the rows, with `chunk_rows` in memory; from the first chunk with one that cannot be read, as they are stored."""
    done = 0
    try:
        for chunk in batched(rows.iterator(chunk_size=chunk_rows), chunk_rows):
            check_rows(chunk)
            yield from chunk
            done += len(chunk)
    except UNREADABLE_ERRORS as error:
        if not is_unreadable(error):
            raise
        yield from restore_rows(rows, done, chunk_rows)


def restore_rows(rows: "QuerySet[Any]", start: int, chunk_rows: int) -> Iterator[Any]:
    """Yield the rows from `start` on, and those that the query joins; a value that cannot be read is a text with a mark."""
    joined = rows.query.select_related if isinstance(rows.query.select_related, dict) else {}
    for chunk in batched(read_texts(annotate_texts(rows)[start:]), chunk_rows):
        restored = [restore(rows.model, texts) for texts in chunk]
        for name in joined:
            add_related(restored, name)
        yield from restored


def restore(model: type[Model], texts: Iterable[str | None]) -> Any:
    fields = model._meta.concrete_fields
    return model(**{field.attname: restore_value(field, text) for field, text in zip(fields, texts, strict=True)})


def restore_value(field: "Field[Any, Any]", text: str | None) -> Any:
    if text is None:
        return None
    if not is_spelled(field, text):
        return Decimal(text) if isinstance(field, DecimalField) and text in NOT_FINITE else f"{MARK} {text}"
    return json.loads(text) if isinstance(field, JSONField) else field.to_python(text)


def add_related(rows: Sequence[Any], name: str) -> None:
    """Set the rows that `rows` refer to by the foreign key `name`."""
    field: Any = rows[0]._meta.get_field(name)
    model = field.related_model
    found = model._default_manager.filter(pk__in={getattr(row, field.attname) for row in rows}).order_by()
    related = {row.pk: row for row in (restore(model, texts) for texts in read_texts(annotate_texts(found)))}
    for row in rows:
        setattr(row, name, related.get(getattr(row, field.attname)))
