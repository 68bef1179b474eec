from django.utils.translation import gettext_lazy as _

from apps.sources import service


class AuthConfig(service.Service):
    name = "apps.sources.auth"
    label = "auth_db"
    verbose_name = _("Source: auth")
