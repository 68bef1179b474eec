from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BiConfig(AppConfig):
    """What TechMarket sets up in Metabase. It has no model, and nobody imports it: the warehouse does not know who draws it."""

    name = "apps.bi"
    label = "bi"
    verbose_name = _("Business intelligence")
