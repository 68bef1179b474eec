"""Who may do what: three groups. They are the release's own; for other rights, make other groups."""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

from techmarket.routers import home

NAMES = VIEWER, OPERATOR, ADMINISTRATOR = "viewer", "operator", "administrator"
SHOWN = ("orchestration", "dwh", "auth_db", "catalog_db", "orders_db", "payments_db", "django_celery_beat")
# What nobody is shown: hashes, and batches, which are raw rows.
SECRET = ("view_credential", "view_token", "view_batch")
OPERATES = ("start_run", "rerun_run", "resume_run", "cancel_run", "view_raw")
ADMINISTERS = ("change_periodictask", "add_crontabschedule", "change_crontabschedule")
PEOPLE = ("user", "group")


def fill_groups(using: str, **kwargs: Any) -> None:
    """After every migrate, not in a migration: Django makes the permissions only then, of new models too."""
    if using != home(Group._meta.app_label):
        return
    sees = Q(content_type__app_label__in=SHOWN, codename__startswith="view_") & ~Q(codename__in=(*SECRET, "view_raw"))
    operates = sees | Q(content_type__app_label="orchestration", codename__in=OPERATES)
    administers = operates | Q(codename__in=ADMINISTERS) | Q(content_type__app_label="auth", content_type__model__in=PEOPLE)
    for name, rights in ((VIEWER, sees), (OPERATOR, operates), (ADMINISTRATOR, administers)):
        Group.objects.get_or_create(name=name)[0].permissions.set(Permission.objects.filter(rights))
