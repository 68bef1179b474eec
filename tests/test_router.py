"""Every model belongs to one database, no relation crosses databases, and each database has its own tables and no others."""

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections, router
from django.db.models import Model

# The models of each database by alias and app.
MODELS = {
    "default": {
        "account": "EmailAddress EmailConfirmation",
        "admin": "LogEntry",
        "audit": "Entry Head RequestRate",
        "auth": "Group Group_permissions Permission User User_groups User_user_permissions",
        "contenttypes": "ContentType",
        "django_celery_beat": "ClockedSchedule CrontabSchedule IntervalSchedule PeriodicTask PeriodicTasks SolarSchedule",
        "mfa": "Authenticator",
        "orchestration": (
            "Attempt Batch CheckResult DayProof Duty Erasure HostClock PaymentMismatch ScheduledRun "
            "Reject RowCount Run Schedule StandingReject Task TaskCount"
        ),
        "sessions": "Session",
        "socialaccount": "SocialAccount SocialApp SocialToken",
    },
    "dwh": {
        "dwh": (
            "DimCategory DimCustomer DimDate DimEmployee DimProduct DimRegion FactSales LineCost Load OrderFingerprint Prepared "
            "ReservedKey Segment"
        )
    },
    "auth_db": {"auth_db": "Credential Role Token User UserRole"},
    "catalog_db": {"catalog_db": "Category Product"},
    "orders_db": {"orders_db": "Customer Employee Order OrderItem Region"},
    "payments_db": {"payments_db": "Payment"},
}


def models() -> list[type[Model]]:
    return list(apps.get_models(include_auto_created=True))


def tables(alias: str) -> set[str]:
    return {model._meta.db_table for model in models() if model._meta.managed and model._meta.app_label in MODELS[alias]}


def test_every_model_has_one_database() -> None:
    assert set(MODELS) == set(settings.DATABASES)
    expected = {(app, name): alias for alias, of_apps in MODELS.items() for app, names in of_apps.items() for name in names.split()}
    assert {(model._meta.app_label, model.__name__): router.db_for_write(model) for model in models()} == expected
    assert {(model._meta.app_label, model.__name__): router.db_for_read(model) for model in models()} == expected


def test_no_relation_crosses_databases() -> None:
    for model in models():
        for field in model._meta.get_fields():
            if isinstance(field.related_model, type):
                assert router.db_for_write(field.related_model) == router.db_for_write(model), field


def test_objects_of_two_databases_cannot_be_related() -> None:
    for one in models():
        for other in models():
            assert router.allow_relation(one(), other()) == (router.db_for_write(one) == router.db_for_write(other)), (one, other)


@pytest.mark.parametrize("alias", MODELS)
def test_migrations_belong_to_one_database(alias: str) -> None:
    with_models = {model._meta.app_label for model in models()}
    assert {app for app in with_models if router.allow_migrate(alias, app)} == set(MODELS[alias])


@pytest.mark.django_db(databases=list(MODELS))
@pytest.mark.parametrize("alias", MODELS)
def test_each_database_has_its_own_tables_and_no_others(alias: str) -> None:
    all_tables = set().union(*map(tables, MODELS))
    assert all_tables & set(connections[alias].introspection.table_names()) == tables(alias)
