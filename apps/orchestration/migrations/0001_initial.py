import json
import uuid
from typing import Any

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models
from django.utils import timezone

import apps.orchestration.fields

CRONTABS = {
    "techmarket-etl-daily": {"minute": "0", "hour": "2", "day_of_week": "*"},
    "techmarket-etl-weekly-full": {"minute": "0", "hour": "3", "day_of_week": "0"},
}


def store_bodies_uncompressed(apps: Any, schema_editor: Any) -> None:
    """A batch is compressed already; PostgreSQL would try again on every write."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE orchestration_batch ALTER COLUMN body SET STORAGE EXTERNAL")


def create_schedules(apps: Any, schema_editor: Any) -> None:
    """Create the shop's two schedules, the reaper's and the clean-up's, once; from then on they belong to the operator."""
    PeriodicTask = apps.get_model("django_celery_beat", "PeriodicTask")
    Crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    Interval = apps.get_model("django_celery_beat", "IntervalSchedule")
    for name, when in CRONTABS.items():
        crontab, _ = Crontab.objects.get_or_create(**when, day_of_month="*", month_of_year="*", timezone="UTC")
        PeriodicTask.objects.get_or_create(
            name=name, defaults={"task": "techmarket.scheduled", "crontab": crontab, "args": json.dumps([name])}
        )
        apps.get_model("orchestration", "Schedule").objects.get_or_create(name=name, defaults={"enabled_since": timezone.now()})
    early, _ = Crontab.objects.get_or_create(minute="0", hour="1", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC")
    PeriodicTask.objects.get_or_create(name="techmarket-forget", defaults={"task": "techmarket.forget", "crontab": early})
    every, _ = Interval.objects.get_or_create(every=settings.ETL_REAP_SECONDS, period="seconds")
    PeriodicTask.objects.get_or_create(
        name="techmarket-reap", defaults={"task": "techmarket.reap", "interval": every, "expire_seconds": settings.ETL_REAP_SECONDS}
    )


class Migration(migrations.Migration):
    initial = True

    dependencies = [("django_celery_beat", "0019_alter_periodictasks_options")]

    operations = [
        migrations.CreateModel(
            name="Schedule",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("enabled_since", models.DateTimeField(blank=True, null=True)),
                ("paused_at", models.DateTimeField(blank=True, null=True)),
                ("failing_since", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("state", models.CharField(default="queued", max_length=12)),
                ("cause", apps.orchestration.fields.MessageField(blank=True, default=str)),
                ("cause_kind", models.CharField(blank=True, max_length=16)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("warehouse", models.CharField(default="dwh", editable=False, max_length=40)),
                ("mode", models.CharField(max_length=12)),
                ("dry_run", models.BooleanField(default=False)),
                ("window_start", models.DateTimeField(blank=True, null=True)),
                ("window_end", models.DateTimeField(blank=True, null=True)),
                ("high_water_mark", models.DateTimeField(blank=True, null=True)),
                ("trigger", models.CharField(max_length=12)),
                ("requested_by", models.CharField(max_length=150)),
                ("reason", models.CharField(blank=True, max_length=255)),
                ("code_version", models.CharField(blank=True, max_length=40)),
                ("executor", models.CharField(default="workers", max_length=8)),
                ("worker", models.CharField(blank=True, max_length=120)),
                ("heartbeat_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("cancelled_by", models.CharField(blank=True, max_length=150)),
                ("result", models.JSONField(blank=True, null=True)),
                (
                    "overlaps",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="orchestration.run"
                    ),
                ),
                (
                    "rerun_of",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="orchestration.run"
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("start_run", "Can start a run"),
                    ("rerun_run", "Can start a run again"),
                    ("resume_run", "Can resume a run"),
                    ("cancel_run", "Can cancel a run"),
                ],
            },
        ),
        migrations.CreateModel(
            name="ScheduledRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("scheduled_for", models.DateTimeField()),
                ("decision", models.CharField(max_length=12)),
                ("decided_by", models.CharField(blank=True, max_length=150)),
                (
                    "run",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="orchestration.run"
                    ),
                ),
                ("schedule", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="orchestration.schedule")),
            ],
            options={
                "ordering": ["-scheduled_for"],
            },
        ),
        migrations.CreateModel(
            name="Task",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("state", models.CharField(default="queued", max_length=12)),
                ("cause", apps.orchestration.fields.MessageField(blank=True, default=str)),
                ("cause_kind", models.CharField(blank=True, max_length=16)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("stage", models.CharField(max_length=12)),
                ("subject", models.CharField(max_length=40)),
                ("low", models.BigIntegerField(blank=True, null=True)),
                ("high", models.BigIntegerField(blank=True, null=True)),
                ("attempt", models.IntegerField(default=0)),
                ("claim", models.UUIDField(blank=True, null=True)),
                ("worker", models.CharField(blank=True, max_length=120)),
                ("heartbeat_at", models.DateTimeField(blank=True, null=True)),
                ("not_before", models.DateTimeField(blank=True, null=True)),
                ("message_sent_at", models.DateTimeField(blank=True, null=True)),
                ("session", models.JSONField(blank=True, null=True)),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="tasks", to="orchestration.run")),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="RowCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("table", models.CharField(max_length=40)),
                ("read", models.BigIntegerField(default=0)),
                ("loaded", models.BigIntegerField(default=0)),
                ("filtered", models.BigIntegerField(default=0)),
                ("rejected", models.BigIntegerField(default=0)),
                ("inserted", models.BigIntegerField(default=0)),
                ("updated", models.BigIntegerField(default=0)),
                ("unchanged", models.BigIntegerField(default=0)),
                ("deleted", models.BigIntegerField(default=0)),
                ("derived", models.BigIntegerField(default=0)),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="row_counts", to="orchestration.run")),
                (
                    "task",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="row_counts", to="orchestration.task"),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Reject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("table", models.CharField(max_length=40)),
                ("row_id", models.CharField(max_length=40)),
                ("rule", models.CharField(max_length=40)),
                ("params", models.JSONField(default=dict)),
                ("raw", models.JSONField()),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="rejects", to="orchestration.run")),
                ("task", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="rejects", to="orchestration.task")),
            ],
            options={
                "ordering": ["id"],
                "permissions": [("view_raw", "Can see personal data and the raw content of rejects")],
            },
        ),
        migrations.CreateModel(
            name="CheckResult",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("name", apps.orchestration.fields.MessageField(blank=True, default=str)),
                ("table", models.CharField(max_length=40)),
                ("passed", models.BooleanField()),
                ("blocking", models.BooleanField()),
                ("expected", apps.orchestration.fields.MessageField(blank=True, default=str)),
                ("observed", apps.orchestration.fields.MessageField(blank=True, default=str)),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="checks", to="orchestration.run")),
                ("task", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="checks", to="orchestration.task")),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Batch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=40)),
                ("rows", models.BigIntegerField()),
                ("checksum", models.BigIntegerField()),
                ("body", models.BinaryField()),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="batches", to="orchestration.run")),
                ("task", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="batches", to="orchestration.task")),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
                ("worker", models.CharField(max_length=120)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("cause", apps.orchestration.fields.MessageField(blank=True, default=str)),
                ("cause_kind", models.CharField(blank=True, max_length=16)),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="orchestration.run")),
                ("task", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="orchestration.task")),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("queued", "running"))), fields=("warehouse",), name="one_active_run_per_warehouse"
            ),
        ),
        migrations.AddConstraint(
            model_name="scheduledrun",
            constraint=models.UniqueConstraint(fields=("schedule", "scheduled_for"), name="one_run_per_scheduled_instant"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["run", "state"], name="orchestrati_run_id_cb1a91_idx"),
        ),
        migrations.AddConstraint(
            model_name="rowcount",
            constraint=models.UniqueConstraint(fields=("task", "table"), name="one_count_per_task_and_table"),
        ),
        migrations.AddIndex(
            model_name="reject",
            index=models.Index(fields=["run", "table", "rule"], name="orchestrati_run_id_7fdf67_idx"),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.UniqueConstraint(fields=("task", "name"), name="one_batch_per_task_and_name"),
        ),
        migrations.RunPython(store_bodies_uncompressed, migrations.RunPython.noop),
        migrations.RunPython(create_schedules, migrations.RunPython.noop),
    ]
