import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import apps.sources.rows


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("first_name", models.CharField(max_length=80)),
                ("last_name", models.CharField(max_length=80)),
                ("email", models.CharField(max_length=254, unique=True)),
                ("phone", models.CharField(blank=True, max_length=40)),
            ],
            options={
                "db_table": "customers",
            },
        ),
        migrations.CreateModel(
            name="Employee",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("first_name", models.CharField(max_length=80)),
                ("last_name", models.CharField(max_length=80)),
                ("email", models.CharField(max_length=254, unique=True)),
                ("hired_at", models.DateField()),
                ("is_manager", models.BooleanField(default=False)),
            ],
            options={
                "db_table": "employees",
            },
        ),
        migrations.CreateModel(
            name="Region",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("code", models.CharField(max_length=10, unique=True)),
                ("name", models.CharField(max_length=120)),
            ],
            options={
                "db_table": "regions",
            },
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("order_date", models.DateTimeField(null=True)),
                ("status", models.CharField(max_length=20)),
                ("total_amount", models.DecimalField(decimal_places=2, max_digits=12)),
                ("customer", models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, to="orders_db.customer")),
                (
                    "employee",
                    models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to="orders_db.employee"),
                ),
                ("region", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="orders_db.region")),
            ],
            options={
                "db_table": "orders",
            },
        ),
        migrations.AddField(
            model_name="employee",
            name="region",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="orders_db.region"),
        ),
        migrations.AddField(
            model_name="customer",
            name="region",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="orders_db.region"),
        ),
        migrations.CreateModel(
            name="OrderItem",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("product_id", models.BigIntegerField(db_index=True)),
                ("quantity", models.IntegerField()),
                ("unit_price", models.DecimalField(decimal_places=2, max_digits=12)),
                ("discount", models.DecimalField(decimal_places=2, default=0, max_digits=12)),
                ("order", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="orders_db.order")),
            ],
            options={
                "db_table": "order_items",
                "constraints": [models.UniqueConstraint(fields=("order", "product_id"), name="order_items_order_product")],
            },
        ),
    ]
