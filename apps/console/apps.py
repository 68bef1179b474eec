from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class ConsoleConfig(AppConfig):
    """The admin as TechMarket's control plane: it shows the ledger and the warehouse, and starts runs. It has no models."""

    name = "apps.console"
    label = "console"

    def ready(self) -> None:
        from apps.console.groups import fill_groups
        from apps.console.personal import hide_rows_of_personal_models

        rename_beat()
        hide_rows_of_personal_models()
        # Django sends the signal only for apps with models.
        post_migrate.connect(fill_groups, sender=apps.get_app_config("orchestration"))


def rename_beat() -> None:
    """Call beat's models what our pages call them: its own names are of tasks that it sends at any time."""
    apps.get_app_config("django_celery_beat").verbose_name = _("Scheduling")
    task, crontab = (apps.get_model("django_celery_beat", name)._meta for name in ("PeriodicTask", "CrontabSchedule"))
    task.verbose_name, task.verbose_name_plural = _("schedule"), _("schedules")
    crontab.verbose_name, crontab.verbose_name_plural = _("crontab"), _("crontabs")
