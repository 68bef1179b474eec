from django.apps import AppConfig


class BackupsConfig(AppConfig):
    """`manage.py backup` and `manage.py restore`. It has no models: a backup is a folder."""

    name = "apps.backups"
    label = "backups"
    verbose_name = "Backups"
