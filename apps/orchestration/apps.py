from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrchestrationConfig(AppConfig):
    name = "apps.orchestration"
    label = "orchestration"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        # In every process the schedules listen to what is saved.
        from apps.orchestration import schedules  # noqa: F401
