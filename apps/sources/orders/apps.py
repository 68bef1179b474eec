from django.utils.translation import gettext_lazy as _

from apps.sources import service


class OrdersConfig(service.Service):
    name = "apps.sources.orders"
    label = "orders_db"
    verbose_name = _("Source: orders")
