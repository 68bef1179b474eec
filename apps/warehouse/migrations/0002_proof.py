from importlib import import_module
from typing import Any

from django.db import migrations, models
from django.db.models import F

on_postgresql = import_module("apps.warehouse.migrations.0001_initial").on_postgresql
LATEST = "CREATE OR REPLACE VIEW data_as_of AS SELECT high_water_mark AS as_of FROM etl_load ORDER BY sequence DESC LIMIT 1"
GREATEST = "CREATE OR REPLACE VIEW data_as_of AS SELECT max(high_water_mark) AS as_of FROM etl_load"


def number_loads(registry: Any, schema_editor: Any) -> None:
    loads = registry.get_model("dwh", "Load").objects.using(schema_editor.connection.alias)
    for number, load in enumerate(loads.order_by("published_at").only("pk"), 1):
        loads.filter(pk=load.pk).update(sequence=number)


def divide_costs(registry: Any, schema_editor: Any) -> None:
    facts = registry.get_model("dwh", "FactSales").objects.using(schema_editor.connection.alias)
    facts.filter(cost_amount__isnull=False).update(unit_cost=F("cost_amount") / F("quantity"))


class Migration(migrations.Migration):
    dependencies = [("dwh", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="OrderFingerprint",
            fields=[
                ("order_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("sales", models.BigIntegerField()),
                ("payments", models.BigIntegerField()),
                ("look_again_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "etl_order",
                "indexes": [
                    models.Index(condition=models.Q(("look_again_at__isnull", False)), fields=["look_again_at"], name="etl_order_due")
                ],
            },
        ),
        migrations.CreateModel(
            name="Segment",
            fields=[
                ("segment", models.BigIntegerField(primary_key=True, serialize=False)),
                ("proven_at", models.DateTimeField(null=True)),
                ("star", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "etl_segment",
            },
        ),
        migrations.AddField("factsales", "unit_cost", models.DecimalField(decimal_places=2, max_digits=12, null=True)),
        migrations.RunPython(divide_costs, migrations.RunPython.noop),
        migrations.CreateModel(
            name="LineCost",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("fact", models.CharField(max_length=40)),
                ("line_id", models.BigIntegerField()),
                ("product_id", models.BigIntegerField()),
                ("unit_cost", models.DecimalField(decimal_places=2, max_digits=12)),
            ],
            options={
                "db_table": "etl_line_cost",
                "constraints": [models.UniqueConstraint(fields=("fact", "line_id"), name="one_cost_per_line")],
            },
        ),
        migrations.AddField("load", "rules", models.CharField(default="", max_length=64)),
        migrations.AddField("load", "sequence", models.BigIntegerField(null=True, unique=True)),
        migrations.RunPython(number_loads, migrations.RunPython.noop),
        migrations.AlterField("load", "sequence", models.BigIntegerField(unique=True)),
        migrations.RunPython(on_postgresql(LATEST), on_postgresql(GREATEST)),
    ]
