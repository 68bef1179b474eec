from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DashboardConfig(AppConfig):
    """The admin's first page. It has no model: it shows what the ledger and the star say."""

    name = "apps.dashboard"
    label = "dashboard"
    verbose_name = _("First page")
