from django.apps import AppConfig


class DemoConfig(AppConfig):
    """The demo shop: generating it, changing it and planting faults in it."""

    name = "apps.demo"
    label = "demo"
