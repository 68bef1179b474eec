"""The login form, which says why a login is refused although the password may be right."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from unfold.forms import AuthenticationForm

from apps.audit.guesses import WINDOW


class LoginForm(AuthenticationForm):
    def get_invalid_login_error(self) -> ValidationError:
        error: ValidationError = super().get_invalid_login_error()
        if not getattr(self.request, "is_login_refused", False):
            return error
        text = _("Too many logins have failed. Wait %(minutes)d minutes, then try again.")
        return ValidationError(text % {"minutes": WINDOW.total_seconds() // 60}, code="refused")
