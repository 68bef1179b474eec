from typing import Any

from django.db import migrations, models


def forget(apps: Any, schema_editor: Any) -> None:
    """They were of whole dimensions. Without them the next run reads each dimension once more."""
    apps.get_model("dwh", "Load").objects.using(schema_editor.connection.alias).update(fingerprints={})


class Migration(migrations.Migration):
    dependencies = [("dwh", "0004_meanings")]

    operations = [
        migrations.AlterField(
            model_name="load",
            name="fingerprints",
            field=models.JSONField(
                default=dict,
                help_text="by dimension, of its slices: what their source rows were like when they were last read",
                verbose_name="fingerprints",
            ),
        ),
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
