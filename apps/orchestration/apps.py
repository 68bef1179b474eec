from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class OrchestrationConfig(AppConfig):
    name = "apps.orchestration"
    label = "orchestration"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        from apps.orchestration import people, schedules  # noqa: F401  the schedules listen to what is saved, in every process

        post_migrate.connect(people.fill_groups, sender=self)
