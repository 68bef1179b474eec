"""The three groups: made by every migrate, each with what it needs and no more."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER

pytestmark = pytest.mark.django_db


def rights(name: str) -> set[str]:
    named = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
    return {".".join(each) for each in named}


def test_viewer_sees_all_but_raw_personal_data() -> None:
    seen = {"orchestration.view_run", "orchestration.view_reject", "dwh.view_factsales", "orders_db.view_customer", "auth_db.view_user"}
    hidden = {"orchestration.view_raw", "orchestration.view_batch", "auth_db.view_credential", "auth_db.view_token", "auth.view_user"}
    assert seen < rights(VIEWER) and not hidden & rights(VIEWER)
    assert all(".view_" in name for name in rights(VIEWER))


def test_operator_also_runs_and_sees_raw_data() -> None:
    verbs = {"start_run", "rerun_run", "resume_run", "cancel_run", "view_raw"}
    assert rights(OPERATOR) - rights(VIEWER) == {f"orchestration.{verb}" for verb in verbs}
    assert rights(VIEWER) < rights(OPERATOR)


def test_administrator_also_keeps_schedules_and_people() -> None:
    people = {f"auth.{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in ("user", "group")}
    schedules = {f"django_celery_beat.{verb}" for verb in ("change_periodictask", "add_crontabschedule", "change_crontabschedule")}
    assert rights(ADMINISTRATOR) - rights(OPERATOR) == people | schedules
    assert rights(OPERATOR) < rights(ADMINISTRATOR)


def test_the_next_migrate_puts_the_groups_right() -> None:
    viewer = Group.objects.get(name=VIEWER)
    viewer.permissions.add(Permission.objects.get(codename="cancel_run"))
    Group.objects.get(name=OPERATOR).delete()
    call_command("migrate", verbosity=0)
    assert "orchestration.cancel_run" not in rights(VIEWER) and "orchestration.cancel_run" in rights(OPERATOR)
