"""The login page: the provider's button, and the form, which says why a login is refused although the password may be right."""

from typing import Any

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from unfold.forms import AuthenticationForm

from apps.audit.guesses import WINDOW
from apps.console.oidc.people import is_from_provider


class LoginForm(AuthenticationForm):
    def get_invalid_login_error(self) -> ValidationError:
        error: ValidationError = super().get_invalid_login_error()
        if not getattr(self.request, "is_login_refused", False):
            return error
        text = _("Too many logins have failed. Wait %(minutes)d minutes, then try again.")
        return ValidationError(text % {"minutes": WINDOW.total_seconds() // 60}, code="refused")

    def confirm_login_allowed(self, user: Any) -> None:
        """Raise ValidationError for somebody of the provider, whatever password an administrator has given them: it could outlive them."""
        super().confirm_login_allowed(user)
        if is_from_provider(user):
            raise self.get_invalid_login_error()


class LoginView(DjangoLoginView):
    """Django's own page of the admin, but for the second factor that may follow the password."""

    template_name = "admin/login.html"
    form_class = LoginForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "GET" and admin.site.has_permission(request):
            return HttpResponseRedirect(self.get_success_url())
        if request.method == "POST" and not settings.LOCAL_LOGIN:
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        login = Login(user=form.get_user(), redirect_url=self.get_success_url())
        answer: HttpResponse = perform_password_login(self.request, {}, login)
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs) | admin.site.each_context(self.request)
        query = f"?{urlencode({REDIRECT_FIELD_NAME: self.get_redirect_url()})}" if self.get_redirect_url() else ""
        return context | {
            "title": _("Log in"),
            "app_path": self.request.get_full_path(),
            "has_local_login": settings.LOCAL_LOGIN,
            "provider": settings.OIDC_URL and settings.OIDC_NAME,
            "provider_address": reverse("oidc_login") + query,
        }
