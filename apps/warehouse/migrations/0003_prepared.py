from importlib import import_module
from typing import Any

import django.db.models.functions.datetime
from django.db import migrations, models

on_postgresql = import_module("apps.warehouse.migrations.0001_initial").on_postgresql
# Partitions of the fact are ranges of order ids, whose column belongs to the primary key then. The partition that is there stays as it is.
REPLACE_KEY = """
DO $$ BEGIN
    EXECUTE (SELECT format('ALTER TABLE fact_sales DROP CONSTRAINT %%I', conname) FROM pg_constraint
        WHERE conrelid = 'fact_sales'::regclass AND contype = 'p');
    ALTER TABLE fact_sales ADD PRIMARY KEY ({columns});
END $$
"""


def replace_key(columns: str) -> Any:
    return on_postgresql(REPLACE_KEY.replace("{columns}", columns))


class Migration(migrations.Migration):
    dependencies = [("dwh", "0002_proof")]

    operations = [
        migrations.CreateModel(
            name="Prepared",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("run_uuid", models.UUIDField(db_index=True)),
                ("run_id", models.BigIntegerField()),
                ("fact", models.CharField(max_length=40)),
                ("low", models.BigIntegerField(null=True)),
                ("high", models.BigIntegerField(null=True)),
                ("relation", models.CharField(max_length=63)),
                ("is_partition", models.BooleanField()),
                ("findings", models.JSONField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "etl_prepared",
            },
        ),
        migrations.CreateModel(
            name="ReservedKey",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("dimension", models.CharField(max_length=40)),
                ("member_id", models.BigIntegerField()),
                ("member_key", models.BigIntegerField()),
            ],
            options={
                "db_table": "etl_reserved_key",
                "constraints": [
                    models.UniqueConstraint(fields=("dimension", "member_id"), name="one_reserved_key_per_member"),
                    models.UniqueConstraint(fields=("dimension", "member_key"), name="one_member_per_reserved_key"),
                ],
            },
        ),
        migrations.RunPython(replace_key("order_item_id, order_id"), replace_key("order_item_id")),
    ]
