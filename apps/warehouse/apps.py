from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.translation import gettext_lazy as _


class WarehouseConfig(AppConfig):
    name = "apps.warehouse"
    label = "dwh"
    verbose_name = _("Warehouse")

    def ready(self) -> None:
        from apps.warehouse.readers import grant_readers
        from apps.warehouse.view_updates import create_views, drop_views

        pre_migrate.connect(drop_views, sender=self)
        # In this order: the views must exist before they are granted.
        post_migrate.connect(create_views, sender=self)
        post_migrate.connect(grant_readers, sender=self)
