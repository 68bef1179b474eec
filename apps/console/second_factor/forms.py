"""Forms that ask for a factor or a password again: failures are limited like those of logins, and a code is good once."""

from typing import Any

from allauth.account.forms import ReauthenticateForm as PasswordAgain
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, AuthenticateWebAuthnForm, ReauthenticateWebAuthnForm
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from apps.audit.actor import find_actor
from apps.audit.guesses import WINDOW, is_refused, record_failure, record_refusal
from apps.console.second_factor.codes import claim_code, renew_secrets
from apps.console.second_factor.secrets import UnreadableSecret

MAX_CODE, MAX_KEY_NAME, MAX_CREDENTIAL = 20, 60, 50_000
ONE_TIME = {"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}


def build_code_field(label: Any) -> forms.CharField:
    return forms.CharField(label=label, max_length=MAX_CODE, widget=UnfoldAdminTextInputWidget(attrs=ONE_TIME))


def refuse_many_failures(user: Any) -> None:
    """Raise ValidationError where too many logins of the user, or from the address, have failed."""
    name, address = user.get_username(), find_actor(user).address
    if is_refused(name, address):
        record_refusal(name, address)
        raise ValidationError(describe_limit(), code="refused")


def describe_limit() -> str:
    return _("Too many logins have failed. Wait %(minutes)d minutes, then try again.") % {"minutes": WINDOW.total_seconds() // 60}


class Limited:
    """Of a form with the attribute `user`."""

    user: Any

    def check(self, verify: Any) -> Any:
        """Return what `verify` returns, and count it as a failed login where it raises ValidationError."""
        refuse_many_failures(self.user)
        try:
            return verify()
        except UnreadableSecret:
            text = _("Your second factor can no longer be read, because SECRET_KEY has changed. Ask an administrator to reset it.")
            raise ValidationError(text) from None
        except ValidationError:
            record_failure(self.user)
            raise


class LimitedCode(Limited, BaseAuthenticateForm):
    code = build_code_field(gettext_lazy("Code"))

    def clean_code(self) -> str:
        code: str = self.check(self.verify_code)
        return code

    def verify_code(self) -> str:
        code: str = super().clean_code()
        if self.authenticator.type == Authenticator.Type.TOTP and not claim_code(self.authenticator, code):
            raise ValidationError(_("This code has been used. Wait for the next one."), code="used")
        renew_secrets(self.user)
        self.authenticator.refresh_from_db()
        return code


class CodeForm(LimitedCode, AuthenticateForm):
    """After the password."""


class CodeAgainForm(LimitedCode, ReauthenticateForm):
    """Before a change of one's own factors."""


class CredentialField(forms.JSONField):
    """What a browser answers for a passkey: base64 of some hundred bytes. Anything else is refused before a library reads it."""

    widget = forms.HiddenInput

    def to_python(self, value: Any) -> Any:
        try:
            answer = super().to_python(value) if len(value or "") <= MAX_CREDENTIAL else None
        except RecursionError:
            answer = None
        if not isinstance(answer, dict):
            raise ValidationError(_("The passkey was not accepted. Try again."), code="invalid")
        return answer


def verify_passkey(verify: Any) -> Any:
    """Return what allauth's `verify` returns; fido2 looks into an answer before it knows that all of it is there."""
    try:
        return verify()
    except (KeyError, AttributeError, TypeError, ValueError, ValidationError):
        raise ValidationError(_("The passkey was not accepted. Try again."), code="invalid") from None


class LimitedPasskey(Limited, AuthenticateWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Authenticator:
        authenticator: Authenticator = self.check(lambda: verify_passkey(super(LimitedPasskey, self).clean_credential))
        return authenticator


class PasskeyForm(LimitedPasskey, AuthenticateWebAuthnForm):
    """After the password."""


class PasskeyAgainForm(LimitedPasskey, ReauthenticateWebAuthnForm):
    """Before a change of one's own factors."""


class PasswordForm(PasswordAgain):
    """Before a change of one's own factors. A wrong password is a failed login, since the backends check it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        field = self.fields["password"]
        field.label, field.help_text = _("Password"), ""
        field.widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password", "autofocus": True})

    def clean_password(self) -> str:
        refuse_many_failures(self.user)
        password: str = super().clean_password()
        return password


class SetUpForm(ActivateTOTPForm):
    code = build_code_field(gettext_lazy("Code of the app"))


class AddPasskeyForm(AddWebAuthnForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=MAX_KEY_NAME, required=False, widget=UnfoldAdminTextInputWidget)
    credential = CredentialField()

    def clean(self) -> Any:
        return verify_passkey(super().clean)
