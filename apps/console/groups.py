"""The release's three groups and their permissions. For other permissions, add other groups."""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

from techmarket.routers import find_database

GROUPS = VIEWER, OPERATOR, ADMINISTRATOR = "viewer", "operator", "administrator"
VIEWED_APPS = ("orchestration", "dwh", "auth_db", "catalog_db", "orders_db", "payments_db", "django_celery_beat")
# No group may view password and token hashes, nor batches, which are raw rows.
NEVER_VIEWED = ("view_credential", "view_token", "view_batch")
OPERATOR_PERMISSIONS = ("start_run", "rerun_run", "resume_run", "accept_run", "cancel_run", "accept_standingreject", "view_raw")
ADMINISTRATOR_PERMISSIONS = ("add_erasure", "change_periodictask", "add_crontabschedule", "change_crontabschedule", "view_entry")
ACCOUNT_MODELS = ("user", "group")


def fill_groups(using: str, **kwargs: Any) -> None:
    """Give the groups their permissions after every migrate, because Django creates those of new models only then."""
    if using != find_database(Group._meta.app_label):
        return
    viewer = Q(content_type__app_label__in=VIEWED_APPS, codename__startswith="view_") & ~Q(codename__in=(*NEVER_VIEWED, "view_raw"))
    operator = viewer | Q(content_type__app_label="orchestration", codename__in=OPERATOR_PERMISSIONS)
    accounts = Q(content_type__app_label="auth", content_type__model__in=ACCOUNT_MODELS) & ~Q(codename="delete_user")
    administrator = operator | Q(codename__in=ADMINISTRATOR_PERMISSIONS) | accounts
    for name, permissions in ((VIEWER, viewer), (OPERATOR, operator), (ADMINISTRATOR, administrator)):
        Group.objects.get_or_create(name=name)[0].permissions.set(Permission.objects.filter(permissions))
