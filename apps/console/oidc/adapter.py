"""What allauth asks of us during a login by the provider: which provider, whether the person may, and what a failure looks like."""

from typing import Any, NoReturn

import structlog
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from allauth.socialaccount.providers.base.constants import AuthError
from django.conf import settings
from django.contrib import admin
from django.db import IntegrityError
from django.http import HttpRequest
from django.shortcuts import render
from django.utils.translation import gettext as _

from apps.audit.actor import acting_as, describe_user
from apps.audit.guesses import record_provider_refusal
from apps.console.oidc.documents import ProviderDown
from apps.console.oidc.people import REASON, NotAdmitted, admit, name_user
from apps.console.oidc.provider import Provider, build_provider

log = structlog.get_logger()


class SocialAdapter(DefaultSocialAccountAdapter):
    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Provider:
        return build_provider(request)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Return False: people are created by the claims alone, before allauth would ask them for a name."""
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Create or update the person. What that changes is theirs, by reason of the provider."""
        uid = sociallogin.account.uid
        name = name_user(uid)
        actor = describe_user(sociallogin.user or name, request.client_address, request.id, REASON)  # type: ignore[attr-defined]
        try:
            with acting_as(actor):
                sociallogin.user = admit(uid, sociallogin.claims)
        except NotAdmitted as error:
            refuse(request, str(error), error.cause, name)
        except IntegrityError:  # the same person's first login in another window, at this moment
            refuse(request, _("Somebody has just logged in with your account. Try again."), "two first logins at once", name)
        request.login_reason = REASON  # type: ignore[attr-defined]

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Exception | None = None, extra_context: Any = None
    ) -> NoReturn:
        if isinstance(exception, ProviderDown):
            log.warning("the OpenID provider does not answer as it should", cause=str(exception))
            raise_page(request, _("%(name)s does not answer. Try again in a minute.") % {"name": settings.OIDC_NAME}, 503)
        if error == AuthError.CANCELLED:
            refuse(request, _("You have cancelled the login at %(name)s.") % {"name": settings.OIDC_NAME}, "cancelled")
        text = _("The login at %(name)s could not be verified. It may have taken too long; log in again.")
        refuse(request, text % {"name": settings.OIDC_NAME}, str(exception or "no login of this browser"))


def refuse(request: HttpRequest, text: str, cause: str, name: str = "") -> NoReturn:
    record_provider_refusal(name, request.client_address, f"{REASON}: {cause}")  # type: ignore[attr-defined]
    raise_page(request, text, 403)


def raise_page(request: HttpRequest, text: str, status: int) -> NoReturn:
    context = admin.site.each_context(request) | {"title": _("Log in"), "text": text}
    raise ImmediateHttpResponse(render(request, "console/login/refused.html", context, status=status))
