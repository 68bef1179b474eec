from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0005_task_counts")]

    operations = [
        # With a default in the database, which workers of an earlier version need while they are being replaced.
        migrations.AddField("batch", "object_name", models.CharField(blank=True, db_default="", default="", max_length=200)),
    ]
