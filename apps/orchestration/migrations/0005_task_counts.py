"""Tasks know what they wait for. Before, whoever claimed one read all unfinished tasks of its run."""

from collections import Counter
from itertools import batched
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

FACT = "fact_sales"
GROUPS = {"plan": 0, "extract": 20, "transform": 30, "load": 90}
FACT_GROUPS = {"extract": 10, "transform": 40}
TASKS_PER_UPDATE = 500


def count_tasks(apps: Any, schema_editor: Any) -> None:
    """Count the tasks of runs that are active, or may be resumed: failed, cancelled or lost ones."""
    runs = apps.get_model("orchestration", "Run").objects.exclude(state__in=("succeeded", "skipped"))
    for number in list(runs.values_list("pk", flat=True)):
        count_tasks_of(apps, number)


def count_tasks_of(apps: Any, run: int) -> None:
    Task, TaskCount = apps.get_model("orchestration", "Task"), apps.get_model("orchestration", "TaskCount")
    tasks = list(Task.objects.filter(run=run).only("stage", "subject", "low", "state", "group", "waits_for"))
    rows = Counter[tuple[str, str]]()
    landed = apps.get_model("orchestration", "Batch").objects.filter(run=run).order_by()
    for stage, subject, count in landed.values_list("task__stage", "task__subject", "rows"):
        rows[stage, subject] += count
    unfinished = Counter((task.stage, task.subject) for task in tasks if task.state != "succeeded")
    TaskCount.objects.bulk_create(
        TaskCount(run_id=run, stage=stage, subject=subject, tasks=count, unfinished=unfinished[stage, subject], rows=rows[stage, subject])
        for (stage, subject), count in Counter((task.stage, task.subject) for task in tasks).items()
    )
    unread = {(task.subject, task.low) for task in tasks if task.stage == "extract" and task.state != "succeeded"}
    for task in tasks:
        task.group = (FACT_GROUPS if task.subject == FACT else GROUPS)[task.stage]
        if task.stage == "extract":
            task.waits_for = int(task.subject != FACT and ("extract", FACT) in unfinished)
        elif task.stage == "transform":
            task.waits_for = int((task.subject, task.low) in unread)
        elif task.stage == "load":
            task.waits_for = sum(stage in ("extract", "transform") for stage, _subject in unfinished)
    for chunk in batched(tasks, TASKS_PER_UPDATE):
        Task.objects.bulk_update(chunk, ["group", "waits_for"])


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0004_duties_and_clocks")]

    operations = [
        migrations.CreateModel(
            name="TaskCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("stage", models.CharField(max_length=12)),
                ("subject", models.CharField(max_length=40)),
                ("tasks", models.IntegerField()),
                ("unfinished", models.IntegerField()),
                ("rows", models.BigIntegerField(default=0)),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="task_counts",
                        to="orchestration.run",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [models.UniqueConstraint(fields=("run", "stage", "subject"), name="one_count_per_stage_and_subject")],
            },
        ),
        migrations.RemoveIndex("task", "orchestrati_run_id_cb1a91_idx"),
        migrations.AddField("task", "group", models.SmallIntegerField(default=0)),
        migrations.AddField("task", "waits_for", models.IntegerField(default=0)),
        migrations.AddIndex("task", models.Index(fields=["run", "state", "waits_for", "not_before", "group", "id"], name="task_ready")),
        migrations.AddIndex("task", models.Index(fields=["run", "stage", "subject", "low"], name="task_slice")),
        migrations.AddIndex(
            "task",
            models.Index(
                condition=models.Q(("message_sent_at__isnull", False), ("state", "queued")),
                fields=["run", "message_sent_at"],
                name="task_sent",
            ),
        ),
        migrations.AddIndex("task", models.Index(condition=models.Q(("state", "running")), fields=["claim"], name="task_running")),
        migrations.AlterField(
            "task",
            "run",
            models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="tasks", to="orchestration.run"),
        ),
        migrations.RunPython(count_tasks, migrations.RunPython.noop, elidable=True),
    ]
