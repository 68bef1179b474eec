"""Web has few rights in the databases: on servers all tests of pages run with them (tests/as_web.py)."""

from typing import Any

import pytest
from django.core.signals import request_started
from django.db import DatabaseError, connections
from django.test import Client

from techmarket.roles import CONTROL, ROLES, find_needed, own_models

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def postgresql() -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("needs servers")


def test_requests_of_tests_have_the_rights_of_web(postgresql: None, client: Client) -> None:
    users: list[str] = []

    def read_users(**kwargs: Any) -> None:
        for alias in ("default", "dwh"):
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT current_user")
                users.extend(cursor.fetchone())

    request_started.connect(read_users)
    try:
        assert client.get("/admin/login/").status_code == 200
    finally:
        request_started.disconnect(read_users)
    assert users == ["etl_web", "etl_web"]


def test_web_may_not_change_the_warehouse(postgresql: None, client: Client) -> None:
    def write(**kwargs: Any) -> None:
        with connections["dwh"].cursor() as cursor:
            cursor.execute("DELETE FROM fact_sales")

    request_started.connect(write)
    try:
        with pytest.raises(DatabaseError, match="permission denied"):
            client.get("/admin/login/")
    finally:
        request_started.disconnect(write)


def test_every_name_in_the_declaration_is_a_model() -> None:
    """A model that is renamed would lose its rights without an error."""
    tables = {model._meta.label_lower: model._meta.db_table for model in own_models(CONTROL)}
    for role in ROLES:
        granted = {right.table for right in find_needed(role) if right.verb != "SELECT"}
        named = {label for label in role.changes if not label.endswith(".*")} | set(role.columns)
        assert named <= tables.keys()
        assert {tables[label] for label in role.changes if not label.endswith(".*")} <= granted
