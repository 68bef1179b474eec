"""payments_db: payments and refunds."""

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
    """A payment attempt or a refund. A refund is a row of its own; the payment that it returns stays captured."""

    order_id = models.BigIntegerField(_("order id"), db_index=True, help_text=_("orders.id in orders_db"))
    method = models.CharField(_("method"), max_length=20, choices=PaymentMethod, help_text=_("payment method"))
    status = models.CharField(
        _("status"), max_length=20, choices=PaymentStatus, help_text=_("captured: money received; refunded: money returned by this row")
    )
    amount = models.DecimalField(_("amount"), max_digits=12, decimal_places=2, help_text=_("always positive, UAH"))
    paid_at = models.DateTimeField(
        _("paid at"), null=True, blank=True, help_text=_("when the money was received or returned; empty until then")
    )

    class Meta:
        db_table = "payments"
        verbose_name = _("payment")
        verbose_name_plural = _("payments")

    def __str__(self) -> str:
        return gettext("Payment %s") % self.pk
