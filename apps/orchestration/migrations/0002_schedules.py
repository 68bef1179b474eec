"""The two schedules of the shop's warehouse, the reaper's and the clean-up's. Made once; from then on they are the operator's."""

import json

from django.conf import settings
from django.db import migrations
from django.utils import timezone

CRONTABS = {
    "techmarket-etl-daily": {"minute": "0", "hour": "2", "day_of_week": "*"},
    "techmarket-etl-weekly-full": {"minute": "0", "hour": "3", "day_of_week": "0"},
}


def make_schedules(apps, schema_editor):
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
    dependencies = [
        ("orchestration", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(make_schedules, migrations.RunPython.noop)]
