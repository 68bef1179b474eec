from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class WarehouseConfig(AppConfig):
    name = "apps.warehouse"
    label = "dwh"
    verbose_name = _("Warehouse")

    def ready(self) -> None:
        from apps.warehouse.readers import grant_star

        post_migrate.connect(grant_star, sender=self)
