from django.apps import AppConfig


class SourcesConfig(AppConfig):
    """Holds what the four services share: commands, the demo shop, the admin. It has no model of its own."""

    name = "apps.sources"
    label = "sources"
