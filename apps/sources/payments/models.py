"""payments_db: what was paid."""

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.sources.rows import SourceRow


class PaymentMethod(models.TextChoices):
    CARD = "card", _("Card")
    PAYPAL = "paypal", _("PayPal")
    BANK_TRANSFER = "bank_transfer", _("Bank transfer")
    CASH = "cash", _("Cash")


class PaymentStatus(models.TextChoices):
    PENDING = "pending", _("Pending")
    CAPTURED = "captured", _("Captured")
    FAILED = "failed", _("Failed")
    REFUNDED = "refunded", _("Refunded")


class Payment(SourceRow):
    """One attempt to pay, or one refund. A refund is a row of its own; the captured row that it gives back stays captured."""

    order_id = models.BigIntegerField(_("order id"), db_index=True, help_text=_("orders.id in orders_db"))
    method = models.CharField(_("method"), max_length=20, choices=PaymentMethod, help_text=_("how it was paid"))
    status = models.CharField(
        _("status"), max_length=20, choices=PaymentStatus, help_text=_("captured: the money came; refunded: this row gives money back")
    )
    amount = models.DecimalField(_("amount"), max_digits=12, decimal_places=2, help_text=_("UAH, always positive"))
    paid_at = models.DateTimeField(_("paid at"), null=True, blank=True, help_text=_("when the money came or went; empty until then"))

    class Meta:
        db_table = "payments"
        verbose_name = _("payment")
        verbose_name_plural = _("payments")

    def __str__(self) -> str:
        return gettext("Payment %s") % self.pk
