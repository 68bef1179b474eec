from django.apps import AppConfig


class SourcesConfig(AppConfig):
    """What the four services share. It has no models of its own."""

    name = "apps.sources"
    label = "sources"
