from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Reports whether TechMarket works: probes, metrics and notices of failed runs."""

    name = "apps.monitoring"
    label = "monitoring"

    def ready(self) -> None:
        from apps.monitoring.notices import notify_run_ended
        from apps.orchestration.signals import run_ended

        run_ended.connect(notify_run_ended)
