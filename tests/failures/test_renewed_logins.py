"""A login that is refused is read again from the file of its address: on real servers, whose passwords change."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import OperationalError, connections

from techmarket import logs
from techmarket.encryption import connect_mysql
from tests.failures.conftest import address, administer, needs_servers

pytestmark = [needs_servers, pytest.mark.servers]
USER = "renewed"


@dataclass
class Login:
    """A user of a server, and the file with the address that names it."""

    alias: str
    file: Path
    connection: Any  # Django's, closed

    def write(self, password: str, user: str = USER, host: str = "") -> None:
        url = urlsplit(address(self.alias, str(self.connection.settings_dict["NAME"])))
        place = host or f"{url.hostname}:{url.port}"
        self.file.write_text(url._replace(netloc=f"{user}:{password}@{place}").geturl())

    def change(self, password: str) -> None:
        statement = (
            f"ALTER ROLE {USER} PASSWORD '{password}'" if self.alias == "dwh" else f"ALTER USER {USER}@'%' IDENTIFIED BY '{password}'"
        )
        administer(self.alias, statement)

    def connect(self) -> None:
        self.connection.close()
        self.connection.ensure_connection()


@pytest.fixture(params=["orders_db", "dwh"])
def login(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[Login]:
    """A connection as a user whose password is `first`, by an address in a file."""
    alias = request.param
    is_postgres = alias == "dwh"
    drop = f"DROP ROLE IF EXISTS {USER}" if is_postgres else f"DROP USER IF EXISTS {USER}@'%'"
    administer(alias, drop)
    administer(alias, f"CREATE ROLE {USER} LOGIN PASSWORD 'first'" if is_postgres else f"CREATE USER {USER}@'%' IDENTIFIED BY 'first'")
    connection = connections[alias].copy()
    connection.settings_dict |= {"NAME": "postgres" if is_postgres else "information_schema", "USER": USER, "PASSWORD": "first"}
    for key in ("USER", "PASSWORD"):
        monkeypatch.setitem(settings.DATABASES[alias], key, connection.settings_dict[key])
    monkeypatch.setattr(logs, "renewed_secrets", set())
    variable = settings.VARIABLES[alias]
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / variable))
    login = Login(alias, tmp_path / variable, connection)
    login.write("first")
    try:
        with django_db_blocker.unblock():
            yield login
    finally:
        connection.close()
        administer(alias, drop)


def test_password_in_the_file_first_then_on_the_server(login: Login, capsys: pytest.CaptureFixture[str]) -> None:
    login.connect()
    second = secrets.token_hex(12)
    login.write(second)
    login.connect()  # the server has the first one still
    assert login.connection.settings_dict["PASSWORD"] == "first"
    login.change(second)
    login.connect()
    assert (login.connection.settings_dict["PASSWORD"], settings.DATABASES[login.alias]["PASSWORD"]) == (second, second)
    assert logs.Mask([]).mask_text(f"x {second} y") == "x *** y"
    third = secrets.token_hex(12)
    login.write(third)
    login.change(third)
    login.connect()
    assert second not in capsys.readouterr().err


@pytest.mark.parametrize("login", ["orders_db"], indirect=True)
def test_session_of_a_source_beside_that_of_django(login: Login) -> None:
    login.change("second-password")
    login.write("second-password")
    with closing(connect_mysql(login.connection)) as session, closing(session.cursor()) as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        assert cursor.fetchone()[0].startswith(f"{USER}@")


def test_other_server_half_a_file_and_no_file_change_nothing(login: Login) -> None:
    """Else a login would be sent to a server that the settings, when they were checked, did not name."""
    login.change("second-password")
    for write in (
        lambda: login.write("second-password", host="127.0.0.1:1"),
        lambda: login.file.write_text("mysql://half"),
        lambda: login.file.write_text(""),
        login.file.unlink,
        lambda: login.write("wrong-too"),
    ):
        write()
        with pytest.raises(OperationalError):
            login.connect()
        assert login.connection.settings_dict["PASSWORD"] == settings.DATABASES[login.alias]["PASSWORD"] == "first"
    login.write("second-password")
    login.connect()


def test_variable_is_not_read_again(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = settings.VARIABLES[login.alias]
    login.change("second-password")
    login.write("second-password")
    monkeypatch.setenv(variable, login.file.read_text())
    monkeypatch.delenv(f"{variable}_FILE")
    with pytest.raises(OperationalError):
        login.connect()
