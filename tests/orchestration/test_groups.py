"""The three groups: every migrate creates them, each with the permissions that it needs and no more."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER

pytestmark = pytest.mark.django_db


def permissions_of(name: str) -> set[str]:
    named = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
    return {".".join(each) for each in named}


def test_viewer_sees_all_but_raw_personal_data() -> None:
    visible = {"orchestration.view_run", "orchestration.view_reject", "dwh.view_factsales", "orders_db.view_customer", "auth_db.view_user"}
    hidden = {"orchestration.view_raw", "orchestration.view_batch", "auth_db.view_credential", "auth_db.view_token", "auth.view_user"}
    assert visible < permissions_of(VIEWER) and not hidden & permissions_of(VIEWER)
    assert all(".view_" in name for name in permissions_of(VIEWER))


def test_operator_also_runs_and_sees_raw_data() -> None:
    verbs = {"start_run", "rerun_run", "resume_run", "accept_run", "cancel_run", "accept_standingreject", "view_raw"}
    assert permissions_of(OPERATOR) - permissions_of(VIEWER) == {f"orchestration.{verb}" for verb in verbs}
    assert permissions_of(VIEWER) < permissions_of(OPERATOR)


def test_administrator_also_manages_schedules_and_users_reads_the_audit_log_and_forgets_customers() -> None:
    users = {f"auth.{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in ("user", "group")} - {"auth.delete_user"}
    schedules = {f"django_celery_beat.{verb}" for verb in ("change_periodictask", "add_crontabschedule", "change_crontabschedule")}
    assert permissions_of(ADMINISTRATOR) - permissions_of(OPERATOR) == users | schedules | {"audit.view_entry", "orchestration.add_erasure"}
    assert permissions_of(OPERATOR) < permissions_of(ADMINISTRATOR)


def test_migrate_restores_the_groups() -> None:
    viewer = Group.objects.get(name=VIEWER)
    viewer.permissions.add(Permission.objects.get(codename="cancel_run"))
    Group.objects.get(name=OPERATOR).delete()
    call_command("migrate", verbosity=0)
    assert "orchestration.cancel_run" not in permissions_of(VIEWER) and "orchestration.cancel_run" in permissions_of(OPERATOR)
