from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrchestrationConfig(AppConfig):
    name = "apps.orchestration"
    label = "orchestration"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        from apps.orchestration import schedules  # noqa: F401  connects the signals of the schedules in every process
        from apps.orchestration.signals import run_ended
        from apps.orchestration.worker.delivery import reconcile_after

        run_ended.connect(reconcile_after)
