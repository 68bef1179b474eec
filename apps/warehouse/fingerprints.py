from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class OrderFingerprint(models.Model):
    """Grain: one order of the sources, sold or not, or an order that only lines or payments name. Written with the rows read of it.

    The order is read again when the sources' fingerprint is another one: that is how a change is found that left `updated_at` as it was,
    and how a deletion is.
    """

    order_id = models.BigIntegerField(
        _("order id"), primary_key=True, help_text=_("orders.id; -2^62 for lines and payments that name no order")
    )
    sales = models.BigIntegerField(_("sales"), help_text=_("sum over the order and its lines: CRC-32 of the columns read, plus 2^32"))
    payments = models.BigIntegerField(_("payments"), help_text=_("the same sum over the payments of the order"))
    look_again_at = models.DateTimeField(
        _("look again at"), null=True, help_text=_("when an order that is dated in the future ceases to be; it is read again then")
    )

    class Meta:
        db_table = "etl_order"
        verbose_name = _("order fingerprint")
        verbose_name_plural = _("order fingerprints")
        indexes = [models.Index(fields=["look_again_at"], name="etl_order_due", condition=models.Q(look_again_at__isnull=False))]

    def __str__(self) -> str:
        return gettext("Order %s") % self.pk


class Segment(models.Model):
    """Grain: 1 024 orders, by order id / 1024: when the sources' fingerprints of them were last compared, and the sum of their facts."""

    segment = models.BigIntegerField(_("segment"), primary_key=True, help_text=_("order id / 1024, rounded towards zero"))
    proven_at = models.DateTimeField(
        _("proven at"),
        null=True,
        help_text=_("when, by the sources' clocks, each order of it was last as it had been read"),
    )
    star = models.BigIntegerField(
        _("star"), default=0, help_text=_("sum of the hashes of the segment's facts as they were written: tells changes by another hand")
    )

    class Meta:
        db_table = "etl_segment"
        verbose_name = _("segment")
        verbose_name_plural = _("segments")

    def __str__(self) -> str:
        return gettext("Segment %s") % self.pk
