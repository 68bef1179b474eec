from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class AuditConfig(AppConfig):
    """Who did what: an append-only log, chained by hash and written in the transaction of each deed."""

    name = "apps.audit"
    label = "audit"
    verbose_name = _("Audit")

    def ready(self) -> None:
        from apps.audit import accounts  # noqa: F401  connects the signals of users, groups and logins
        from apps.audit.protection import protect_after_migrate

        post_migrate.connect(protect_after_migrate, sender=self)
