"""Personal data is hidden where rows are read, so that no page, list, export or lookup can show it to a person without the permission."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.db.models.signals import post_init
from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase

# The permission to see personal data and the raw content of rejects, and what is shown without it.
VIEW_RAW = "orchestration.view_raw"
HIDDEN = "•••"
# The person whose request is being answered. Commands and workers have none, and read rows as they are.
reader: ContextVar[Any] = ContextVar("reader", default=None)


class PersonalDataMiddleware:
    """Names the reader of every row that is read for a request, also while its answer is streamed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with reading_for(request.user):
            response = self.get_response(request)
        if response.streaming and not isinstance(response, FileResponse):
            response.streaming_content = stream_for(request.user, response.streaming_content)  # type: ignore[attr-defined]
        return response


@contextmanager
def reading_for(person: Any) -> Iterator[None]:
    token = reader.set(person)
    try:
        yield
    finally:
        reader.reset(token)


def stream_for(person: Any, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks; each is made for `person`, since another request may be answered between two of them."""
    while True:
        with reading_for(person):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def personal_columns(model: type[Model]) -> tuple[str, ...]:
    """Return the names of the columns that the model declares as personal data."""
    return getattr(model, "personal", ())


def hide_personal_data(instance: Model, **kwargs: Any) -> None:
    """Hide the personal data of a row just read from a reader without the permission. No page saves such a row."""
    person = reader.get()
    if person is None or person.has_perm(VIEW_RAW):
        return
    for name in personal_columns(type(instance)):
        if instance.__dict__.get(name):
            instance.__dict__[name] = HIDDEN


def hide_rows_of_personal_models() -> None:
    """Let every row pass `hide_personal_data`, whichever query it is read by."""
    for model in apps.get_models():
        if personal_columns(model):
            post_init.connect(hide_personal_data, sender=model)
