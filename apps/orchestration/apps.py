from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrchestrationConfig(AppConfig):
    name = "apps.orchestration"
    label = "orchestration"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        # In every process the schedules listen to what is saved, and reasons are known.
        from apps.orchestration import reasons, schedules  # noqa: F401
