"""A walk over everything that the admin can show of a row: each page, list, lookup, filter, order and export, for one client."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.apps import apps
from django.contrib import admin
from django.db.models import Field, ForeignKey, Model
from django.test import Client
from django.urls import get_resolver, reverse

from apps.console.personal import personal_columns
from tests.console.test_every_address import fill, walk

ROWS_PER_MODEL = 2  # whose own pages are opened
LEAVES = "logout"  # a route that would end the walk
SLOW = "/readyz"


@dataclass(frozen=True)
class Answer:
    address: str
    status: int
    text: str


def crawl(client: Client, term: str, parts: Sequence[str] = ("",)) -> Iterator[Answer]:
    """Ask by GET for every address that has one of `parts`. `term`: what is searched for, and filtered by."""
    for address in dict.fromkeys(address for address in list_addresses(term) if any(part in address for part in parts)):
        answer = client.get(address)
        body = b"".join(answer)
        yield Answer(address, answer.status_code, read_text(body) + str(answer.headers))


def read_text(body: bytes) -> str:
    """Return the answer as text; of an XLSX file, the text of its parts."""
    if not body.startswith(b"PK"):
        return body.decode()
    with zipfile.ZipFile(io.BytesIO(body)) as parts:
        return "".join(parts.read(name).decode(errors="replace") for name in parts.namelist())


def list_addresses(term: str) -> Iterator[str]:
    for model in admin.site._registry:
        yield from list_addresses_of(model, term)
    for model in apps.get_models():
        yield from list_lookups(model, term)
    for route in sorted(set(walk(get_resolver().url_patterns))):
        if LEAVES not in route and SLOW not in route:
            yield fill(route, "1")
            yield f"{fill(route, '1')}?_popup=1&q={term}"


def list_addresses_of(model: type[Model], term: str) -> Iterator[str]:
    """Yield the list with all that Django's lists take in an address, and the pages of some rows."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    listed = reverse(f"{name}_changelist")
    fields = list(model._meta.concrete_fields)
    for query in ("", "?_popup=1", f"?_popup=1&_to_field={model._meta.pk.name}", f"?q={term}", "?all=", "?e=1", "?_facets=True", "?p=2"):
        yield listed + query
    for number in range(1, len(fields) + 2):
        yield f"{listed}?o={number}"
        yield f"{listed}?o=-{number}"
    for field in fields:
        yield from (f"{listed}?{lookup}={term}" for lookup in list_filters(field))
        yield f"{listed}?_to_field={field.name}&_popup=1"
    for key in model._default_manager.order_by("-pk").values_list("pk", flat=True)[:ROWS_PER_MODEL]:
        for page in ("change", "history", "delete"):
            yield reverse(f"{name}_{page}", args=[key])
            yield f"{reverse(f'{name}_{page}', args=[key])}?_popup=1&_to_field={model._meta.pk.name}"


def list_filters(field: "Field[object, object]") -> Iterator[str]:
    """Yield lookups of the field; of a foreign key, also those of the columns beyond it."""
    yield from (field.name, f"{field.name}__startswith", f"{field.name}__regex")
    if isinstance(field, ForeignKey):
        yield from (f"{field.name}__{each.name}__startswith" for each in field.related_model._meta.concrete_fields)


def list_filters_by_personal_data(term: str) -> Iterator[str]:
    """Yield the addresses above that would tell by the rows they list what a hidden column holds."""
    for model in admin.site._registry:
        listed = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for field in model._meta.concrete_fields:
            hidden = personal_columns(field.related_model) if isinstance(field, ForeignKey) else ()
            beyond = [lookup for lookup in list_filters(field) if lookup.split("__")[1:2] and lookup.split("__")[1] in hidden]
            own = list(list_filters(field)) if field.name in personal_columns(model) else []
            yield from (f"{listed}?{lookup}={term}" for lookup in own + beyond)


def list_lookups(model: type[Model], term: str) -> Iterator[str]:
    """Yield the autocompletion of each foreign key, on which no page of ours relies."""
    for field in model._meta.concrete_fields:
        if isinstance(field, ForeignKey):
            query = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}&field_name={field.name}"
            yield f"{reverse('admin:autocomplete')}?{query}"
            yield f"{reverse('admin:autocomplete')}?{query}&term={term}"
