from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="RequestRate",
            fields=[
                ("user_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("minute", models.BigIntegerField()),
                ("count", models.IntegerField()),
            ],
            options={"db_table": "audit_request_rate", "default_permissions": ()},
        ),
    ]
