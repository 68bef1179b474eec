from django.utils.translation import gettext_lazy as _

from apps.sources import service


class PaymentsConfig(service.Service):
    name = "apps.sources.payments"
    label = "payments_db"
    verbose_name = _("Source: payments")
