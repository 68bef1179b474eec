"""The pages of people's own second factors, and the one that asks for a factor after the password: allauth's, as ours look."""

from typing import Any

from allauth.account.views import ReauthenticateView
from allauth.mfa.base.views import AuthenticateView, IndexView
from allauth.mfa.base.views import ReauthenticateView as CodeAgainView
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView, ReauthenticateWebAuthnView, RemoveWebAuthnView
from django.contrib import admin
from django.contrib.auth.mixins import AccessMixin
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse_lazy
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext_lazy as _

from apps.console.oidc.people import is_from_provider
from apps.console.second_factor.codes import claim_code
from apps.console.second_factor.required import lacks_factor

DOWNLOAD = "data:text/plain;charset=utf-8,"


class Page:
    """Of a view of allauth: the admin's frame around it, and a title. Never stored by a browser: it may show a secret."""

    title: Any
    request: HttpRequest

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        add_never_cache_headers(answer)
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]
        return context | admin.site.each_context(self.request) | {"title": self.title}


class OwnPage(AccessMixin, Page):
    """A page of somebody who is signed in by a local account: the provider keeps the factors of its people."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not admin.site.has_permission(request):
            return self.handle_no_permission()
        if is_from_provider(request.user):
            raise Http404
        return super().dispatch(request, *args, **kwargs)


class CodePage(Page, AuthenticateView):
    template_name = "console/login/code.html"
    title = _("Second factor")


class SecurityPage(OwnPage, IndexView):
    template_name = "console/security/index.html"
    title = _("Security")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        return context | {"must_set_up": lacks_factor(self.request.user), "codes": context["authenticators"].get("recovery_codes")}


class PasswordAgain(OwnPage, ReauthenticateView):
    template_name = "console/security/again.html"
    title = _("Confirm that it is you")


class CodeAgain(OwnPage, CodeAgainView):
    template_name = "console/security/again.html"
    title = _("Confirm that it is you")


class PasskeyAgain(OwnPage, ReauthenticateWebAuthnView):
    template_name = "console/security/again.html"
    title = _("Confirm that it is you")


class AddApp(OwnPage, ActivateTOTPView):
    template_name = "console/security/add_app.html"
    title = _("Add an authenticator app")

    def form_valid(self, form: Any) -> HttpResponseBase:
        answer: HttpResponseBase = super().form_valid(form)
        claim_code(Authenticator.objects.get(user=self.request.user, type=Authenticator.Type.TOTP), form.cleaned_data["code"])
        return answer


class RemoveApp(OwnPage, DeactivateTOTPView):
    template_name = "console/security/remove.html"
    title = _("Remove the authenticator app")


class AddPasskey(OwnPage, AddWebAuthnView):
    template_name = "console/security/add_passkey.html"
    title = _("Add a passkey")


class RemovePasskey(OwnPage, RemoveWebAuthnView):
    template_name = "console/security/remove.html"
    title = _("Remove the passkey")
    success_url = reverse_lazy("mfa_index")


class RecoveryCodes(OwnPage, ViewRecoveryCodesView):
    template_name = "console/security/recovery_codes.html"
    title = _("Recovery codes")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        return context | {"download": DOWNLOAD + "%0A".join(context["unused_codes"])}


class NewRecoveryCodes(OwnPage, GenerateRecoveryCodesView):
    template_name = "console/security/new_recovery_codes.html"
    title = _("New recovery codes")
