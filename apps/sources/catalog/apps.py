from django.utils.translation import gettext_lazy as _

from apps.sources import service


class CatalogConfig(service.Service):
    name = "apps.sources.catalog"
    label = "catalog_db"
    verbose_name = _("Source: catalog")
