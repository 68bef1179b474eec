import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import apps.sources.rows


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Category",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("name", models.CharField(max_length=120)),
                ("parent", models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to="catalog_db.category")),
            ],
            options={
                "db_table": "categories",
            },
        ),
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("name", models.CharField(max_length=200)),
                ("sku", models.CharField(max_length=40, unique=True)),
                ("price", models.DecimalField(decimal_places=2, max_digits=12)),
                ("cost", models.DecimalField(decimal_places=2, max_digits=12)),
                ("status", models.CharField(max_length=20)),
                ("category", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="catalog_db.category")),
            ],
            options={
                "db_table": "products",
            },
        ),
        migrations.AddConstraint(
            model_name="category",
            constraint=models.UniqueConstraint(fields=("parent", "name"), name="categories_parent_name"),
        ),
    ]
