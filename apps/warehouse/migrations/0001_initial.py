from typing import Any

import django.db.models.deletion
from django.db import migrations, models

from apps.warehouse.partition import CreateSinglePartitionModel

CREATE_VIEW = "CREATE VIEW data_as_of AS SELECT max(high_water_mark) AS as_of FROM etl_load"
DROP_VIEW = "DROP VIEW data_as_of"


def on_postgresql(statement: str) -> Any:
    """SQLite rebuilds a table to alter it, and a view on etl_load would stop that; there nobody but us reads the star."""

    def execute(apps: Any, schema_editor: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(statement)

    return execute


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="DimCategory",
            fields=[
                ("run_id", models.BigIntegerField()),
                ("is_deleted", models.BooleanField()),
                ("is_inferred", models.BooleanField()),
                ("category_key", models.IntegerField(primary_key=True, serialize=False)),
                ("category_id", models.BigIntegerField(null=True, unique=True)),
                ("name", models.CharField(max_length=120)),
                ("parent_category_key", models.IntegerField()),
                ("root_name", models.CharField(max_length=120)),
            ],
            options={
                "db_table": "dim_category",
            },
        ),
        migrations.CreateModel(
            name="DimDate",
            fields=[
                ("run_id", models.BigIntegerField()),
                ("is_deleted", models.BooleanField()),
                ("is_inferred", models.BooleanField()),
                ("date_key", models.IntegerField(primary_key=True, serialize=False)),
                ("date", models.DateField(null=True, unique=True)),
                ("year", models.IntegerField(null=True)),
                ("quarter", models.IntegerField(null=True)),
                ("month", models.IntegerField(null=True)),
                ("month_name", models.CharField(max_length=20)),
                ("iso_week", models.IntegerField(null=True)),
                ("day", models.IntegerField(null=True)),
                ("day_of_week", models.IntegerField(null=True)),
                ("is_weekend", models.BooleanField()),
                ("is_holiday", models.BooleanField()),
            ],
            options={
                "db_table": "dim_date",
            },
        ),
        migrations.CreateModel(
            name="DimRegion",
            fields=[
                ("run_id", models.BigIntegerField()),
                ("is_deleted", models.BooleanField()),
                ("is_inferred", models.BooleanField()),
                ("region_key", models.IntegerField(primary_key=True, serialize=False)),
                ("region_id", models.BigIntegerField(null=True, unique=True)),
                ("code", models.CharField(max_length=10)),
                ("name", models.CharField(max_length=120)),
            ],
            options={
                "db_table": "dim_region",
            },
        ),
        migrations.CreateModel(
            name="Load",
            fields=[
                ("run_uuid", models.UUIDField(primary_key=True, serialize=False)),
                ("run_id", models.BigIntegerField(db_index=True)),
                ("mode", models.CharField(max_length=20)),
                ("window_start", models.DateTimeField(null=True)),
                ("window_end", models.DateTimeField(null=True)),
                ("high_water_mark", models.DateTimeField(null=True)),
                ("counts", models.JSONField()),
                ("fingerprints", models.JSONField(default=dict)),
                ("published_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "db_table": "etl_load",
            },
        ),
        migrations.CreateModel(
            name="DimProduct",
            fields=[
                ("run_id", models.BigIntegerField()),
                ("is_deleted", models.BooleanField()),
                ("is_inferred", models.BooleanField()),
                ("product_key", models.IntegerField(primary_key=True, serialize=False)),
                ("product_id", models.BigIntegerField(null=True, unique=True)),
                ("name", models.CharField(max_length=200)),
                ("sku", models.CharField(max_length=40)),
                ("category_name", models.CharField(max_length=120)),
                ("root_category_name", models.CharField(max_length=120)),
                ("price", models.DecimalField(decimal_places=2, max_digits=12, null=True)),
                ("cost", models.DecimalField(decimal_places=2, max_digits=12, null=True)),
                ("status", models.CharField(max_length=20)),
                (
                    "category",
                    models.ForeignKey(db_column="category_key", on_delete=django.db.models.deletion.PROTECT, to="dwh.dimcategory"),
                ),
            ],
            options={
                "db_table": "dim_product",
            },
        ),
        migrations.CreateModel(
            name="DimEmployee",
            fields=[
                ("run_id", models.BigIntegerField()),
                ("is_deleted", models.BooleanField()),
                ("is_inferred", models.BooleanField()),
                ("employee_key", models.IntegerField(primary_key=True, serialize=False)),
                ("employee_id", models.BigIntegerField(null=True, unique=True)),
                ("first_name", models.CharField(max_length=80)),
                ("last_name", models.CharField(max_length=80)),
                ("email", models.CharField(max_length=254)),
                ("is_manager", models.BooleanField()),
                ("hired_at", models.DateField(null=True)),
                ("roles", models.CharField(max_length=80)),
                ("region", models.ForeignKey(db_column="region_key", on_delete=django.db.models.deletion.PROTECT, to="dwh.dimregion")),
            ],
            options={
                "db_table": "dim_employee",
            },
        ),
        migrations.CreateModel(
            name="DimCustomer",
            fields=[
                ("run_id", models.BigIntegerField()),
                ("is_deleted", models.BooleanField()),
                ("is_inferred", models.BooleanField()),
                ("customer_key", models.IntegerField(primary_key=True, serialize=False)),
                ("customer_id", models.BigIntegerField(null=True, unique=True)),
                ("first_name", models.CharField(max_length=80)),
                ("last_name", models.CharField(max_length=80)),
                ("email", models.CharField(max_length=254)),
                ("account_status", models.CharField(max_length=20)),
                ("registered_at", models.DateTimeField(null=True)),
                ("region", models.ForeignKey(db_column="region_key", on_delete=django.db.models.deletion.PROTECT, to="dwh.dimregion")),
            ],
            options={
                "db_table": "dim_customer",
            },
        ),
        CreateSinglePartitionModel(
            name="FactSales",
            fields=[
                ("order_item_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("order_id", models.BigIntegerField(db_index=True)),
                ("order_status", models.CharField(max_length=20)),
                ("payment_method", models.CharField(max_length=20)),
                ("quantity", models.IntegerField()),
                ("gross_amount", models.DecimalField(decimal_places=2, max_digits=24)),
                ("discount_amount", models.DecimalField(decimal_places=2, max_digits=24)),
                ("net_amount", models.DecimalField(decimal_places=2, max_digits=24)),
                ("cost_amount", models.DecimalField(decimal_places=2, max_digits=24, null=True)),
                ("margin_amount", models.DecimalField(decimal_places=2, max_digits=24, null=True)),
                ("paid_amount", models.DecimalField(decimal_places=2, max_digits=24)),
                ("paid_at", models.DateTimeField(null=True)),
                ("ordered_at", models.DateTimeField()),
                ("run_id", models.BigIntegerField()),
                (
                    "category",
                    models.ForeignKey(
                        db_column="category_key", db_index=False, on_delete=django.db.models.deletion.PROTECT, to="dwh.dimcategory"
                    ),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        db_column="customer_key", db_index=False, on_delete=django.db.models.deletion.PROTECT, to="dwh.dimcustomer"
                    ),
                ),
                ("date", models.ForeignKey(db_column="date_key", on_delete=django.db.models.deletion.PROTECT, to="dwh.dimdate")),
                (
                    "employee",
                    models.ForeignKey(
                        db_column="employee_key", db_index=False, on_delete=django.db.models.deletion.PROTECT, to="dwh.dimemployee"
                    ),
                ),
                ("product", models.ForeignKey(db_column="product_key", on_delete=django.db.models.deletion.PROTECT, to="dwh.dimproduct")),
                (
                    "region",
                    models.ForeignKey(
                        db_column="region_key", db_index=False, on_delete=django.db.models.deletion.PROTECT, to="dwh.dimregion"
                    ),
                ),
            ],
            options={
                "db_table": "fact_sales",
            },
        ),
        # What readers of the star may know of its loads: how old the data is.
        migrations.RunPython(on_postgresql(CREATE_VIEW), on_postgresql(DROP_VIEW)),
    ]
