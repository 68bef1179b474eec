from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0001_initial")]

    operations = [
        migrations.AddField("run", "reread", models.BooleanField(default=False)),
        migrations.AddField("run", "based_on", models.BigIntegerField(blank=True, editable=False, null=True)),
        migrations.AddField("run", "found", models.JSONField(blank=True, default=dict)),
        migrations.AddField("reject", "slice_id", models.BigIntegerField(blank=True, null=True)),
        migrations.AddField("reject", "amount", models.DecimalField(blank=True, decimal_places=2, max_digits=24, null=True)),
        migrations.CreateModel(
            name="StandingReject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("table", models.CharField(max_length=40)),
                ("row_id", models.CharField(max_length=40)),
                ("rule", models.CharField(max_length=40)),
                ("params", models.JSONField(default=dict)),
                ("raw", models.JSONField()),
                ("slice_id", models.BigIntegerField(blank=True, null=True)),
                ("amount", models.DecimalField(blank=True, decimal_places=2, max_digits=24, null=True)),
                ("subject", models.CharField(max_length=40)),
                ("state", models.CharField(default="open", max_length=12)),
                ("first_seen", models.DateTimeField()),
                ("last_seen", models.DateTimeField()),
                ("first_run", models.BigIntegerField()),
                ("last_run", models.BigIntegerField()),
                ("runs", models.IntegerField(default=1)),
                ("cleared_by_run", models.BigIntegerField(blank=True, null=True)),
                ("decided_by", models.CharField(blank=True, max_length=150)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("comment", models.CharField(blank=True, max_length=255)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["state", "table"], name="orchestrati_state_92535e_idx")],
                "constraints": [models.UniqueConstraint(fields=("subject", "table", "row_id", "rule"), name="one_reject_per_row_and_rule")],
            },
        ),
        migrations.CreateModel(
            name="DayProof",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("verdict", models.CharField(max_length=12)),
                ("checked_at", models.DateTimeField()),
                ("star_as_of", models.DateTimeField(blank=True, null=True)),
                ("differing", models.IntegerField(default=0)),
                ("source", models.JSONField(default=dict)),
                ("star", models.JSONField(default=dict)),
                ("orders", models.JSONField(default=list)),
                ("order_ids", models.JSONField(default=list)),
            ],
            options={
                "ordering": ["-day"],
            },
        ),
        migrations.AddField(
            model_name="run",
            name="orders",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AlterModelOptions(
            name="run",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("start_run", "Can start a run"),
                    ("rerun_run", "Can start a run again"),
                    ("resume_run", "Can resume a run"),
                    ("cancel_run", "Can cancel a run"),
                    ("accept_run", "Can publish a run that the brakes have stopped"),
                ],
            },
        ),
        migrations.AddField("run", "revenue", models.JSONField(blank=True, default=dict)),
        migrations.AddField("run", "accepted_by", models.CharField(blank=True, max_length=150)),
        migrations.AddField("run", "accepted_because", models.CharField(blank=True, max_length=255)),
    ]
