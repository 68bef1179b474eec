"""How many costly pages a person may ask for in a minute: searches, filters, lists of a live source, and exports."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import ResolverMatch

from apps.audit.rates import WINDOW_S, count_request, record_refusal

ALWAYS = ("_csv", "_xlsx", "_balances", "autocomplete")  # the ends of their names
WITH_A_QUERY = ("_changelist", "index")
STARTS = ("orchestration_run_start", "orchestration_dayproof_repair")  # and previews; opening their forms costs nothing


class RateLimitMiddleware:
    """Answers 429 where there were more. Pages that refresh themselves are not among those counted, whatever headers a client sends."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        limit, user = settings.COSTLY_REQUESTS_PER_MINUTE, request.user
        if user.pk is None or not is_costly(request, request.resolver_match):
            return None
        count = count_request(user.pk)
        if count <= limit:
            return None
        if count == limit + 1:
            record_refusal(user.get_username(), request.path)
        page = render(request, "429.html", {"limit": limit}, status=429)
        page["Retry-After"] = str(WINDOW_S)
        return page


def is_costly(request: HttpRequest, match: ResolverMatch | None) -> bool:
    name = (match.url_name if match else "") or ""
    if name in STARTS:
        return request.method == "POST"
    if name.endswith(WITH_A_QUERY):
        return bool(request.GET) or name.startswith(tuple(settings.SOURCES))
    return name.endswith(ALWAYS)
