"""The page that stands where a database took too long for a page, or where this process has no room for one more export."""

from collections.abc import Callable

import structlog
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _

from techmarket.messages import translate
from techmarket.statement_limits import PageTimeout, has_timed_out, limited_statements

log = structlog.get_logger()
RETRY_AFTER_S = 30


class PageTimeoutMiddleware:
    """Limits the statements of a request, and answers 503 where one was ended: in a view, or in another middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with limited_statements() as timeouts:
            response = self.get_response(request)
        return show_timeout(request, timeouts[-1]) if timeouts and response.status_code == 500 else response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, PageTimeout) or (isinstance(error, OperationalError) and has_timed_out(error)):
            return show_timeout(request, error)
        return None


def show_timeout(request: HttpRequest, error: Exception) -> HttpResponse:
    log.warning("a page took too long", page=request.path, cause=str(error))
    if isinstance(error, PageTimeout):
        return show_busy(request, translate(error.message))
    return show_busy(request, _("The database took too long. Choose narrower filters or a shorter period, and try again."))


def show_busy(request: HttpRequest, cause: str) -> HttpResponse:
    page = render(request, "503.html", {"cause": cause}, status=503)
    page["Retry-After"] = str(RETRY_AFTER_S)
    return page
