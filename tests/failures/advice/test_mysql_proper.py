"""What MySQL has and MariaDB has not. They change the whole server, so they run where TEST_MYSQL_URL names one that is MySQL."""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.conf import settings

from tests.failures.advice.mysql import account
from tests.failures.advice.own import SOURCES
from tests.failures.advice.steps import Cause, Command, Scene, take
from tests.failures.conftest import Shop, needs_servers
from tests.servers import mysql

pytestmark = needs_servers


@pytest.fixture(autouse=True)
def admin() -> Iterator[Any]:
    """Return a session that was open before."""
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        if "MariaDB" in cursor.fetchone()[0]:
            pytest.skip("MariaDB has neither code")
        yield cursor


def tls_demanded(shop: Shop) -> Scene:
    plain = Command(SOURCES, {settings.VARIABLES[alias]: f"{shop.urls[alias]}?sslmode=disable" for alias in settings.SOURCES})
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL require_secure_transport = ON")
        try:
            yield plain
            yield Command(SOURCES, {settings.VARIABLES[alias]: f"{shop.urls[alias]}?sslmode=require" for alias in settings.SOURCES})
        finally:
            cursor.execute("SET GLOBAL require_secure_transport = OFF")


def offline(shop: Shop) -> Scene:
    with account(shop) as (_, env), closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL offline_mode = ON")
        try:
            yield Command(SOURCES, env)
        finally:
            cursor.execute("SET GLOBAL offline_mode = OFF")
        yield Command(SOURCES, env)


@pytest.mark.parametrize(("code", "cause"), [("database.encryption_wanted", tls_demanded), ("database.offline", offline)])
def test_step_helps(shop: Shop, code: str, cause: Cause) -> None:
    take(shop, cause, code)
