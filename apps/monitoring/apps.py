from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Probes, metrics and notices: whether every part works, for people and for programs."""

    name = "apps.monitoring"
    label = "monitoring"

    def ready(self) -> None:
        from apps.monitoring.notices import send_notice
        from apps.orchestration.signals import run_ended

        run_ended.connect(send_notice)
