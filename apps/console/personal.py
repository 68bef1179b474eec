"""Personal data is hidden where rows are read, so that no page, list, export or lookup can show it to a person without the permission."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Model
from django.db.models.signals import post_init
from django.http import FileResponse, HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac

from apps.audit.actor import acting_as
from apps.audit.chain import record
from apps.audit.models import Deed

# The permission to see personal data and the raw content of rejects, and what is shown without it.
VIEW_RAW = "orchestration.view_raw"
HIDDEN = "•••"


@dataclass
class Reader:
    """The person whose request is being answered, and the number of rows with personal data that were read for it, by model."""

    person: Any
    seen: Counter[str] = field(default_factory=Counter)


# Commands and workers have none, and read rows as they are.
reader: ContextVar[Reader | None] = ContextVar("reader", default=None)


class PersonalDataMiddleware:
    """Names the reader of every row that is read for a request, also while its answer is streamed, and records what was shown."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        whose = Reader(request.user)
        with reading_for(whose):
            response = self.get_response(request)
        if response.streaming and not isinstance(response, FileResponse):
            response.streaming_content = stream_for(whose, request, response.streaming_content)  # type: ignore[attr-defined]
        else:
            record_view(whose, request)
        return response


@contextmanager
def reading_for(whose: Reader) -> Iterator[None]:
    token = reader.set(whose)
    try:
        yield
    finally:
        reader.reset(token)


def stream_for(whose: Reader, request: HttpRequest, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks; each is made for its reader, since another request may be answered between two of them."""
    try:
        while True:
            with reading_for(whose):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk
    finally:
        with acting_as(request):
            record_view(whose, request)


def record_view(whose: Reader, request: HttpRequest) -> None:
    """Record that rows with personal data were shown, without their content."""
    if whose.seen:
        record(Deed.PERSONAL_DATA_VIEWED, after={"page": request.path, "rows": dict(whose.seen)})


def describe_query(model: type[Model], query: QueryDict) -> str:
    """Return the query of a list for the audit log, whose entries stay for years.

    What was searched for in personal data is a keyed hash: it can be compared with a name or an address, and not be read.
    """
    personal = personal_columns(model)
    pairs = ((name, value) for name, values in query.lists() for value in values)
    if not personal:
        return query.urlencode()
    return urlencode([(name, hash_text(value) if name.split("__")[0] in (SEARCH_VAR, *personal) else value) for name, value in pairs])


def hash_text(text: str) -> str:
    return f"hash-{salted_hmac('techmarket.searched', text.strip().casefold(), algorithm='sha256').hexdigest()[:16]}"


def personal_columns(model: type[Model]) -> tuple[str, ...]:
    """Return the names of the columns that the model declares as personal data."""
    return getattr(model, "personal", ())


def hide_personal_data(instance: Model, **kwargs: Any) -> None:
    """Hide the personal data of a row just read from a reader without the permission. No page saves such a row."""
    whose = reader.get()
    if whose is None:  # first, because a run may make millions of rejects
        return
    found = [name for name in personal_columns(type(instance)) if instance.__dict__.get(name)]
    if not found:
        return
    if whose.person.has_perm(VIEW_RAW):
        whose.seen[instance._meta.label] += 1
    else:
        instance.__dict__ |= dict.fromkeys(found, HIDDEN)


def hide_rows_of_personal_models() -> None:
    """Let every row pass `hide_personal_data`, whichever query it is read by."""
    for model in apps.get_models():
        if personal_columns(model):
            post_init.connect(hide_personal_data, sender=model)
