from django.apps import AppConfig


class SchemaConfig(AppConfig):
    """What the models say of their tables, as files for people. It has no model of its own."""

    name = "apps.schema"
    label = "schema"
