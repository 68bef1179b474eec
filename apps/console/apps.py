from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class ConsoleConfig(AppConfig):
    """The admin as TechMarket's control plane. It has no models: it shows the ledger and the warehouse, and requests runs."""

    name = "apps.console"
    label = "console"

    def ready(self) -> None:
        from apps.console.groups import fill_groups

        # Django sends the signal only for apps with models.
        post_migrate.connect(fill_groups, sender=apps.get_app_config("orchestration"))
