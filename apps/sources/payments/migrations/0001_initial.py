import django.db.models.functions.datetime
from django.db import migrations, models

import apps.sources.rows


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Payment",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("order_id", models.BigIntegerField(db_index=True)),
                ("method", models.CharField(max_length=20)),
                ("status", models.CharField(max_length=20)),
                ("amount", models.DecimalField(decimal_places=2, max_digits=12)),
                ("paid_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "payments",
            },
        ),
    ]
