"""Where an e-mail address of a person stands in texts: of the ledger, the audit log, the admin's history and the warehouse."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast

from techmarket.roles import CONTROL, own_models

SHOWN = 20  # rows of one column
KINDS: tuple[Any, ...] = (models.CharField, models.TextField, models.JSONField)
SEARCHED_APPS = ("orchestration", "audit", "admin", "dwh")  # of people and their sessions a worker reads no texts
TYPED_APPS = ("orchestration", "admin")
Column = tuple[type[models.Model], Any]


def find_mentions(addresses: Iterable[str], find_columns: Callable[[], Iterator[Column]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each column in which an address stands, with the first keys of its rows."""
    for model, field in find_columns():
        if keys := list(find_rows(model, field, addresses).values_list("pk", flat=True)[:SHOWN]):
            yield f"{model._meta.db_table}.{field.column}", [str(key) for key in keys]


def find_texts() -> Iterator[Column]:
    for model in (*own_models(CONTROL), *own_models("dwh")):
        if model._meta.app_label in SEARCHED_APPS:
            yield from ((model, field) for field in model._meta.concrete_fields if isinstance(field, KINDS))


def find_typed() -> Iterator[Column]:
    """Yield the columns with what people type, such as reasons. Those of the audit log cannot be changed."""
    for model, field in find_texts():
        if model._meta.app_label in TYPED_APPS and not isinstance(field, models.JSONField):
            yield model, field


def replace_typed(addresses: Iterable[str], pseudonym: str) -> int:
    """Put the pseudonym in the place of the addresses in what people have typed. Return the number of texts."""
    pattern = re.compile("|".join(map(re.escape, sorted(addresses, key=len, reverse=True))), re.IGNORECASE)
    count = 0
    for model, field in find_typed() if pattern.pattern else ():
        for key, text in find_rows(model, field, addresses).values_list("pk", field.name):
            count += model._base_manager.filter(pk=key).update(**{field.name: pattern.sub(pseudonym, text)[: field.max_length]})
    return count


def find_rows(model: type[models.Model], field: Any, addresses: Iterable[str]) -> "models.QuerySet[Any]":
    return model._base_manager.annotate(searched=Cast(field.name, models.TextField())).filter(any_of("searched", addresses))


def any_of(column: str, addresses: Iterable[str]) -> Q:
    """Return the condition that the column names one of the addresses; nothing fits where there are none."""
    return Q(*((f"{column}__icontains", address) for address in addresses), _connector=Q.OR) or Q(pk__in=[])
