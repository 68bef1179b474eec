from django.apps import AppConfig


class SchemaConfig(AppConfig):
    """Migrations, and the data dictionary, diagrams and SQL generated from the models. It has no models of its own."""

    name = "apps.schema"
    label = "schema"
