from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BiConfig(AppConfig):
    """Sets up Metabase. It has no models, and no other app imports it: the warehouse does not depend on its readers."""

    name = "apps.bi"
    label = "bi"
    verbose_name = _("Business intelligence")
