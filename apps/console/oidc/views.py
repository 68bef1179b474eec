from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.utils import get_next_redirect_url
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.console.oidc.people import PROVIDER_ID
from apps.console.oidc.provider import CallbackView, CodeFlow, build_provider

View = Callable[[HttpRequest], HttpResponse]


def with_provider(view: View) -> View:
    """Answer 404 where no provider is set, and the page of a refusal where it is refused."""

    @never_cache
    @require_GET
    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if not settings.OIDC_URL:
            raise Http404
        try:
            return view(request)
        except OAuth2Error as error:  # before the part of the flow in which allauth expects one
            answer: HttpResponse = render_authentication_error(request, build_provider(request), exception=error)
            return answer

    return answer


@with_provider
def log_in(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider. By a link: a form may not lead to another origin (apps/console/browser_policy.py)."""
    return build_provider(request).redirect(request, None, get_next_redirect_url(request))


@with_provider
def finish(request: HttpRequest) -> HttpResponse:
    """Take the provider's answer."""
    view: Any = CallbackView.adapter_view(CodeFlow(request, PROVIDER_ID))
    answer: HttpResponse = view(request)
    return answer
