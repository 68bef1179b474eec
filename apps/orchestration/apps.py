from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class OrchestrationConfig(AppConfig):
    name = "apps.orchestration"
    label = "orchestration"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        from apps.orchestration import schedules  # noqa: F401  connects the signals of the schedules in every process
        from apps.orchestration.erasures import send_erasures
        from apps.orchestration.ready import create_functions
        from apps.orchestration.signals import run_ended
        from apps.orchestration.worker.delivery import reconcile_after
        from techmarket.roles import grant_after_migrate

        run_ended.connect(reconcile_after)
        run_ended.connect(send_erasures)
        # In this order: what is granted must exist.
        post_migrate.connect(create_functions, sender=self)
        post_migrate.connect(grant_after_migrate, sender=self)
