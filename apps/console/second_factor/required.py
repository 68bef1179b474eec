"""Who needs a second factor, and what they reach before they have one: the pages on which they set it up."""

from collections.abc import Callable
from typing import Any

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import Permission
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from apps.console.groups import VIEWER
from apps.console.oidc.people import is_from_provider

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
REACHABLE = ("admin:logout", "admin:jsi18n", "set_language")


class RequiredFactorMiddleware:
    """Lead whoever needs a second factor and has none to the page on which they set it up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.MFA_REQUIRED == "none" or is_reachable(request.path) or not lacks_factor(request.user):
            return self.get_response(request)
        return HttpResponseRedirect(reverse("mfa_index"))


def is_reachable(path: str) -> bool:
    return path.startswith(reverse("mfa_index")) or path in map(reverse, REACHABLE)


def lacks_factor(person: Any) -> bool:
    return needs_factor(person) and not Authenticator.objects.filter(user_id=person.pk, type__in=FACTORS).exists()


def needs_factor(person: Any) -> bool:
    """Return True where MFA_REQUIRED means this person. For people of the provider, the provider asks for a factor."""
    if not person.is_authenticated or settings.MFA_REQUIRED == "none" or is_from_provider(person):
        return False
    return settings.MFA_REQUIRED == "everyone" or may_more_than_viewer(person)


def may_more_than_viewer(person: Any) -> bool:
    """Return True for operators, administrators, superusers, and people in a group of one's own with a permission that viewers lack."""
    viewed = Permission.objects.filter(group__name=VIEWER).values_list("content_type__app_label", "codename")
    return bool(person.is_superuser or person.get_all_permissions() - {f"{app}.{code}" for app, code in viewed})
