"""A session is what we set it to, whatever the server, the database or the role has as default; and files are those of their path."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connections

from techmarket import sessions
from techmarket.errors import Misconfigured
from tests.conftest import Cli
from tests.failures.conftest import Shop, administer, assert_one_line, needs_files, needs_servers
from tests.servers import mysql

POSTGRES_DEFAULTS = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "timezone": "'Asia/Tokyo'",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "400",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "400",
    "idle_session_timeout": "400",
    "synchronous_commit": "off",
    "transform_null_equals": "on",
}
# For users without administrative rights alone, so no other test's session is concerned.
INIT_CONNECT = (
    "SET NAMES latin1, time_zone = '-05:00', sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH',"
    " sql_select_limit = 2, sql_auto_is_null = 1, foreign_key_checks = 0, wait_timeout = 1, completion_type = 1"
)


@needs_servers
def test_run_with_other_defaults_of_the_databases(shop: Shop) -> None:
    for alias in settings.WAREHOUSE:
        for name, value in POSTGRES_DEFAULTS.items():
            administer(alias, f"ALTER DATABASE {shop.name(alias)} SET {name} = {value}")
    for command in (("run_etl", "--quiet"), ("run_etl", "--mode", "full", "--quiet"), ("ping",), ("reconcile",)):
        result = shop.run(*command)
        assert "Traceback" not in result.stderr and "imeout" not in result.stderr
        assert command == ("ping",) or result.returncode == 0, result.stderr
    assert [run["state"] for run in shop.runs()][-2:] == ["succeeded", "succeeded"]


@needs_servers
def test_foreign_keys_must_be_checked(shop: Shop) -> None:
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET session_replication_role = replica")
    result = shop.run("run_etl", "--quiet")
    assert_one_line(result, 4, "dwh (", "session_replication_role is replica for user ", "SET session_replication_role = origin` there.")


@needs_servers
@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("alias", ["default", "dwh"])
def test_every_session_of_postgresql_is_set(alias: str, shop: Shop) -> None:
    for name, value in POSTGRES_DEFAULTS.items():
        administer(alias, f"ALTER DATABASE {shop.name(alias)} SET {name} = {value}")
    connection = connections[alias].copy()
    connection.settings_dict = connection.settings_dict | {"NAME": shop.name(alias)}
    with closing(connection), connection.cursor() as cursor:
        for name, value in (sessions.POSTGRES | {"synchronous_commit": "on"}).items():
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == (value,)


@needs_servers
@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("opened", ["django", "snapshot"])
def test_sessions_of_mysql_with_another_init_connect(opened: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    alias, user = "orders_db", f"reader_{os.getpid()}_{opened}"
    own = connections[alias].settings_dict | {"USER": user, "PASSWORD": "pw", "NAME": shop.name(alias)}
    server = mysql(os.environ["TEST_MYSQL_URL"])
    with closing(server), server.cursor() as cursor:
        cursor.execute(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'pw'")
        cursor.execute(f"GRANT SELECT ON {shop.name(alias)}.* TO {user}@'127.0.0.1'")
        cursor.execute("SET GLOBAL init_connect = %s", [INIT_CONNECT])
        try:
            with closing(connections[alias].copy()) as connection:
                connection.settings_dict = own
                monkeypatch.setattr(connections[alias], "settings_dict", own)
                connection.ensure_connection()
                raw = connection.connection if opened == "django" else sessions.open_mysql(alias)
                found = list(sessions.look_at_mysql(alias, raw))
                with closing(raw.cursor()) as session:
                    session.execute("SELECT @@wait_timeout, @@completion_type, @@foreign_key_checks")
                    assert session.fetchone() == (28800, "NO_CHAIN", 1)
        finally:
            cursor.execute("SET GLOBAL init_connect = ''")
            cursor.execute(f"DROP USER {user}@'127.0.0.1'")
    assert found == list(sessions.MYSQL_LOOK.values())


@needs_servers
@pytest.mark.django_db(databases="__all__")
def test_source_session_that_a_proxy_changed_is_refused() -> None:
    options = dict(connections["orders_db"].settings_dict["OPTIONS"])
    options["init_command"] += ", time_zone='+09:00'"
    connection = connections["orders_db"].copy()
    connection.settings_dict = connection.settings_dict | {"OPTIONS": options, "NAME": ""}
    with pytest.raises(Misconfigured, match="session's time_zone is '\\+09:00' where '\\+00:00' was set"):
        connection.ensure_connection()
    assert connection.connection is None


@pytest.mark.parametrize(
    ("option", "named"), [("charset=latin1", "charset"), ("init_command=SET+sql_mode=''", "init_command"), ("foo=1", "foo")]
)
def test_run_with_an_option_of_the_drivers(run_cli: Cli, option: str, named: str) -> None:
    result = run_cli("run_etl", env={"ORDERS_DB_URL": f"mysql://u:topsecret@127.0.0.1/orders?{option}"})
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (4, "", 1), result.stderr
    assert result.stderr.startswith(f"ORDERS_DB_URL: the option {named} is refused: ") and "topsecret" not in result.stderr


@needs_files
@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a b&c=d", "магазин", "a+b"])
def test_folder_with_letters_of_an_address(shop: Shop, tmp_path: Path, name: str) -> None:
    """The path up to the # or the ? is another shop's file."""
    folder = tmp_path / name
    folder.mkdir()
    for file in tmp_path.glob("*.sqlite3"):
        shutil.copy(file, folder)
        if name[1] in "#?":
            file.write_bytes(b"another shop's")
    shop.folder, before = folder, shop.folder
    result = shop.run("run_etl", "--quiet", env={"VAR_DIR": str(folder)})
    assert result.returncode == 0, result.stderr
    assert shop.runs()[-1]["state"] == "succeeded"
    assert not [path for path in before.iterdir() if path.name == name.split("#")[0].split("?")[0] and path != folder]
