import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0003_payment_lists")]

    operations = [
        migrations.CreateModel(
            name="Duty",
            fields=[
                ("name", models.CharField(max_length=12, primary_key=True, serialize=False)),
                ("done_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="HostClock",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("role", models.CharField(max_length=8)),
                ("ahead_seconds", models.FloatField()),
                ("measured_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("host", "role"), name="one_clock_per_host_and_role")]},
        ),
    ]
