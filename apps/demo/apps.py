from django.apps import AppConfig


class DemoConfig(AppConfig):
    """The demo shop: how it is made, changed and broken."""

    name = "apps.demo"
    label = "demo"
