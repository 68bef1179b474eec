from typing import Any

from django.db import migrations

CREATE = "CREATE VIEW data_as_of AS SELECT max(high_water_mark) AS as_of FROM etl_load"
DROP = "DROP VIEW data_as_of"


def on_postgresql(statement: str) -> Any:
    """On SQLite a view would stand in the way of every later change to etl_load, and nobody else reads the star there."""

    def run(apps: Any, schema_editor: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(statement)

    return run


class Migration(migrations.Migration):
    """What those who may read the star alone may know of its loads: how old it is."""

    dependencies = [("dwh", "0002_words")]

    operations = [migrations.RunPython(on_postgresql(CREATE), on_postgresql(DROP))]
