"""Forgotten customers: the administrator's form, and the certificates."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from apps.console.readonly import ReadOnlyAdmin
from apps.orchestration.erasures import describe_certificate, find_customer, request_erasure, send_erasures
from apps.orchestration.models import Erasure

DONE, WAITING = "done", "waiting"


class ErasureForm(forms.ModelForm):  # type: ignore[type-arg]
    confirmed = forms.BooleanField(
        label=_("Forget this customer"),
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("This cannot be undone. Sums and counts stay as they are."),
    )

    class Meta:
        model = Erasure
        fields = ("customer_id", "reason")
        widgets = {"reason": UnfoldAdminTextInputWidget}

    def clean_customer_id(self) -> int:
        customer_id: int = self.cleaned_data["customer_id"]
        if not find_customer(customer_id):
            raise ValidationError(_("Neither the warehouse nor the source has a customer with this id."))
        return customer_id


@admin.register(Erasure)
class ErasureAdmin(ReadOnlyAdmin):
    """Asked for here, and done by a worker: web can change neither the warehouse nor a batch."""

    form = ErasureForm
    list_display = ("customer_id", "state", "requested_by", "requested_at", "done_at")
    search_fields = ("=customer_id", "=requested_by")
    empty_text = _("Customers whose data was erased on their request appear here, each with its certificate.")

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return request.user.has_perm("orchestration.add_erasure")

    def get_fields(self, request: HttpRequest, obj: Erasure | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("customer_id", "reason", "confirmed")
        return ("customer_id", "reason", "requested_by", "requested_at", "done_at", "shown_certificate")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [*super().get_readonly_fields(request, obj), "shown_certificate"] if obj else ()

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Offer *Save* alone."""
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **options)

    def save_model(self, request: HttpRequest, obj: Erasure, form: Any, change: bool) -> None:
        obj.pk = request_erasure(obj.customer_id, request.user.get_username(), obj.reason).pk
        send_erasures()

    def response_add(self, request: HttpRequest, obj: Erasure, *args: Any) -> HttpResponse:
        """Say what happens next, in the place of Django's message of an added row."""
        self.message_user(request, _("A worker erases the customer now, or once the active run has ended."), messages.SUCCESS)
        answer: HttpResponse = self.response_post_save_add(request, obj)
        return answer

    @display(description=_("state"), label={DONE: "success", WAITING: "warning"})
    def state(self, erasure: Erasure) -> Any:
        return (DONE, _("Done")) if erasure.done_at else (WAITING, _("Waiting"))

    @admin.display(description=_("certificate"))
    def shown_certificate(self, erasure: Erasure) -> str:
        lines = describe_certificate(erasure.certificate) if erasure.done_at else ["–"]
        return format_html_join("", "<p>{}</p>", ((line,) for line in lines))
