from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class OrchestrationConfig(AppConfig):
    name = "apps.orchestration"
    label = "orchestration"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        # In every process the schedules listen to what is saved, and reasons are known.
        from apps.orchestration import people, reasons, schedules  # noqa: F401

        post_migrate.connect(people.fill_groups, sender=self)
