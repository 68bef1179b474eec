"""Invalid settings are refused at start, in one line with the variable and an example, and without secrets."""

import ast
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured

from techmarket.environment import (
    SEED_PASSWORDS,
    Environment,
    refuse_driver_variables,
    refuse_insecure_settings,
    refuse_seed_broker,
    refuse_shared_databases,
)
from tests.conftest import PASSED_ON, ROOT, Cli

SECRET = "canary-Пароль"
BAD_SETTINGS_EXIT_CODE = 4
GOOD_KEY = "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
EMBEDDED = Path("/nowhere/dwh.sqlite3")


def database(url: str, servers: str = "postgres") -> dict[str, Any]:
    return Environment({"DWH_URL": url}).database("DWH_URL", EMBEDDED, servers)


def assert_refused(error: pytest.ExceptionInfo[ImproperlyConfigured], name: str) -> None:
    message = str(error.value)
    assert message.startswith(f"{name}: ")
    assert f"Example: {name}=" in message
    assert "\n" not in message
    assert SECRET not in message and quote(SECRET) not in message


# --- Addresses ---


@pytest.mark.parametrize("spelled", [f"p@:/%#?&=+[] {SECRET}", "Пароль", "1/x", "%41", "'\"$\\"])
@pytest.mark.parametrize("scheme", ["postgres", "mysql"])
def test_any_password_works_percent_encoded(spelled: str, scheme: str) -> None:
    config = database(f"{scheme}://us%40er:{quote(spelled, safe='')}@db.example.com:6000/dwh", scheme)
    assert (config["USER"], config["PASSWORD"], config["HOST"], config["PORT"], config["NAME"]) == (
        "us@er",
        spelled,
        "db.example.com",
        6000,
        "dwh",
    )


@pytest.mark.parametrize("password", ["a/b", "1/b", "1#b", "1?b", "a#b", "a?b", "[", "1/b@c", "1:2"])
def test_unencoded_password_never_becomes_part_of_a_name(password: str) -> None:
    """Unchecked, `u:1/b@h` would be host `u`, port 1 and database `b@h`."""
    try:
        config = database(f"postgres://user:{password}@db.example.com/dwh")
    except ImproperlyConfigured as error:
        assert password not in str(error)
    else:
        assert (config["PASSWORD"], config["HOST"], config["NAME"]) == (password, "db.example.com", "dwh")


@pytest.mark.parametrize("port", ["abc", "70000", "65536", "0", "-1", "5432x", "５４３２", "%20"])
def test_invalid_port(port: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        database(f"postgres://user:{SECRET}@127.0.0.1:{port}/dwh")
    assert_refused(error, "DWH_URL")


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://user:{SECRET}@127.0.0.1/dwh",
        f"oracle://user:{SECRET}@127.0.0.1/dwh",
        f"user:{SECRET}@127.0.0.1/dwh",
        SECRET,
        f"postgres://user:{SECRET}@127.0.0.1",
        f"postgres://user:{SECRET}@127.0.0.1/",
        f"postgres://user:{SECRET}@/dwh",
        f"postgres://user:{SECRET}@:5432/dwh",
        f"postgres://user:{SECRET}@127.0.0.1/dwh/other",
        "sqlite://",
        "sqlite:///",
        "sqlite://dwh.sqlite3",
    ],
)
def test_invalid_address(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        database(url)
    assert_refused(error, "DWH_URL")


def test_trailing_newline_is_stripped() -> None:
    assert database("postgres://user:secret@127.0.0.1:5432/dwh\n")["NAME"] == "dwh"
    assert database("postgres://user:secret@127.0.0.1:5432\n/dwh")["PORT"] == 5432
    assert Environment({"N": "7\n"}).number("N", 1, 1, 9) == 7


def test_default_is_the_embedded_file() -> None:
    assert database("") == {"ENGINE": "django.db.backends.sqlite3", "NAME": str(EMBEDDED)}
    assert database("sqlite:////data/dwh.sqlite3")["NAME"] == "/data/dwh.sqlite3"
    assert database("postgresql://u:p@[::1]/dwh?sslmode=require")["OPTIONS"] == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mysql://u:p@127.0.0.1:3306/shop", "mysql://v:q@127.0.0.1:3306/shop"),
        ("mysql://u:p@localhost/shop", "mysql://u:p@127.0.0.1:3306/shop"),
        ("mysql://u:p@DB.example.com/shop", "mysql://u:p@db.example.com:3306/shop"),
        ("sqlite:////data/shop.sqlite3", "sqlite:////data/../data/shop.sqlite3"),
    ],
)
def test_two_aliases_on_one_database(one: str, other: str) -> None:
    both = {"orders_db": database(one, "mysql"), "payments_db": database(other, "mysql")}
    with pytest.raises(ImproperlyConfigured) as error:
        refuse_shared_databases(both, {"orders_db": "ORDERS_DB_URL", "payments_db": "PAYMENTS_DB_URL"})
    assert_refused(error, "PAYMENTS_DB_URL")
    assert "ORDERS_DB_URL" in str(error.value)


def test_two_databases_on_one_server_are_accepted() -> None:
    both = {"control": database("postgres://u:p@h/control"), "dwh": database("postgres://u:p@h/dwh")}
    refuse_shared_databases(both, {"control": "CONTROL_DB_URL", "dwh": "DWH_URL"})


# --- Single values ---


@pytest.mark.parametrize(
    ("spelled", "flag"), [("False", False), ("false", False), ("0", False), ("off\n", False), ("TRUE", True), ("1", True)]
)
def test_flags(spelled: str, flag: bool) -> None:
    assert Environment({"DEBUG": spelled}).flag("DEBUG", not flag) is flag


@pytest.mark.parametrize("value", ["maybe", "", "2", "tru", "нет"])
def test_invalid_flag(value: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"DEBUG": value}).flag("DEBUG", True)
    assert_refused(error, "DEBUG")


@pytest.mark.parametrize("value", ["0", "-5", "1000001", "1e3", "1_000", "７", "٣", "", "abc", "1.5", "0x10", "9" * 400])
def test_invalid_number(value: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"ETL_BATCH_ORDERS": value}).number("ETL_BATCH_ORDERS", 20_000, 1, 1_000_000)
    assert_refused(error, "ETL_BATCH_ORDERS")


@pytest.mark.parametrize("value", ["Mars/Base", "", "../../etc/passwd", "/etc/passwd", "Europe", "UTC+2", "Europe/Kyiv\x00"])
def test_invalid_time_zone(value: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"SHOP_TIME_ZONE": value}).zone("SHOP_TIME_ZONE", "Europe/Kyiv")
    assert_refused(error, "SHOP_TIME_ZONE")


@pytest.mark.parametrize("value", ["", "var", "./var", "~/var"])
def test_relative_folder(value: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"VAR_DIR": value}).folder("VAR_DIR", Path("/srv"), "/var/lib/techmarket")
    assert_refused(error, "VAR_DIR")


def test_list_of_words() -> None:
    assert Environment({"HOSTS": " a.example, ,b.example\n"}).words("HOSTS", "", "x") == ["a.example", "b.example"]
    assert Environment({"HOSTS": ""}).words("HOSTS", "localhost", "x") == []


# --- NAME_FILE ---


def test_file_holds_the_value(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"postgres://user:{quote(SECRET)}@127.0.0.1/dwh\n")
    assert Environment({"DWH_URL_FILE": str(tmp_path / "url")}).database("DWH_URL", EMBEDDED, "postgres")["PASSWORD"] == SECRET


def test_both_the_value_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"SECRET_KEY": SECRET, "SECRET_KEY_FILE": str(tmp_path / "key")}).text("SECRET_KEY", "", "x")
    assert_refused(error, "SECRET_KEY")
    assert "SECRET_KEY_FILE" in str(error.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00"])
def test_file_without_a_value(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"SECRET_KEY_FILE": str(tmp_path / "key")}).text("SECRET_KEY", "", "x")
    assert_refused(error, "SECRET_KEY_FILE")


@pytest.mark.parametrize("path", ["", "/", "/nowhere/key", f"postgres://user:{SECRET}@127.0.0.1/dwh", "\x00"])
def test_file_that_cannot_be_read(path: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"SECRET_KEY_FILE": path}).text("SECRET_KEY", "", "x")
    assert_refused(error, "SECRET_KEY_FILE")


# --- Development values in production ---


@pytest.mark.parametrize(
    ("name", "key", "hosts", "password"),
    [
        ("SECRET_KEY", "", ["etl.example.com"], "own"),
        ("SECRET_KEY", GOOD_KEY[:49], ["etl.example.com"], "own"),
        ("SECRET_KEY", f"django-insecure-{GOOD_KEY}", ["etl.example.com"], "own"),
        ("SECRET_KEY", "x" * 60, ["etl.example.com"], "own"),
        ("ALLOWED_HOSTS", GOOD_KEY, [], "own"),
        ("ALLOWED_HOSTS", GOOD_KEY, ["etl.example.com", "*"], "own"),
        ("DWH_URL", GOOD_KEY, ["etl.example.com"], "dwh_pass"),
        ("DWH_URL", GOOD_KEY, ["etl.example.com"], "rootpass"),
        ("DWH_URL", GOOD_KEY, ["etl.example.com"], "auth_pass"),
    ],
)
def test_production_refuses_development_values(name: str, key: str, hosts: list[str], password: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        refuse_insecure_settings(key, hosts, {"dwh": {"PASSWORD": password}}, {"dwh": "DWH_URL"})
    assert_refused(error, name)
    assert password not in str(error.value)
    refuse_insecure_settings(GOOD_KEY, ["etl.example.com"], {"dwh": {"PASSWORD": "own"}}, {"dwh": "DWH_URL"})


@pytest.mark.parametrize("password", sorted(SEED_PASSWORDS))
def test_production_refuses_every_development_password(password: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        refuse_insecure_settings(GOOD_KEY, ["etl.example.com"], {"dwh": {"PASSWORD": password}}, {"dwh": "DWH_URL"})
    assert_refused(error, "DWH_URL")
    with pytest.raises(ImproperlyConfigured) as error:
        refuse_seed_broker(f"redis://:{quote(password)}@redis:6379/0")
    assert_refused(error, "CELERY_BROKER_URL")
    refuse_seed_broker("redis://:own@redis:6379/0")
    refuse_seed_broker("filesystem://")


# --- A whole process ---


@pytest.mark.parametrize(
    "program",
    [
        ("gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket", "techmarket.wsgi"),
        ("gunicorn", "--config", "deploy/gunicorn.conf.py", "techmarket.wsgi"),
    ],
    ids=" ".join,
)
def test_servers_refuse_invalid_settings_as_commands_do(program: tuple[str, ...]) -> None:
    """gunicorn adds lines of its own, but none shows a traceback."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"ENV_FILE": os.devnull, "DWH_URL": "foo"}
    result = subprocess.run([sys.executable, "-m", *program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    message = "DWH_URL: the address must begin with postgres:// or sqlite:///. Example: DWH_URL=postgres://"
    assert (result.returncode, result.stderr.count(message), "Traceback" in result.stderr) == (BAD_SETTINGS_EXIT_CODE, 1, False), (
        result.stderr
    )


def test_start_in_production(run_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{GOOD_KEY}\n")
    env = {"DEBUG": "False", "SECRET_KEY_FILE": str(tmp_path / "key"), "ALLOWED_HOSTS": "etl.example.com"}
    result = run_cli("check", "--deploy", "--fail-level", "WARNING", env=env)
    assert result.returncode == 0, result.stderr


# --- .env.example ---


def documented() -> dict[str, str]:
    return dict(re.findall(r"^#([A-Z][A-Z_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def calls() -> list[ast.Call]:
    """Return the calls `env.<kind>("NAME", default...)` in settings.py."""
    tree = ast.parse((ROOT / "techmarket" / "settings.py").read_text())
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
        and isinstance(node.args[0], ast.Constant)
    ]


def test_example_names_every_variable_and_no_other() -> None:
    from techmarket.settings import PRIMARIES, READ_VARIABLES

    read = {ast.literal_eval(call.args[0]) for call in calls()} | {*PRIMARIES.values(), *READ_VARIABLES.values()}
    assert set(documented()) == read


def test_example_shows_the_defaults() -> None:
    constant = {ast.literal_eval(call.args[0]): call.args[1] for call in calls()}
    defaults = {name: str(node.value) for name, node in constant.items() if isinstance(node, ast.Constant)}
    assert {name: documented()[name] for name in defaults} == defaults


def test_example_explains_every_variable() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"#[A-Z_]+=", line):
            assert above.startswith("# "), line


def test_uncommented_example_changes_nothing(run_cli: Cli, tmp_path: Path) -> None:
    uncommented = re.sub(r"^#([A-Z_]+=.+)$", r"\1", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    (tmp_path / "env").write_text(uncommented)
    result = run_cli("check", env={"ENV_FILE": str(tmp_path / "env")})
    assert result.returncode == 0, result.stderr


# --- Options of an address ---


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        *(
            ("mysql", f"{name}={SECRET}")
            for name in ("charset", "init_command", "sql_mode", "conv", "use_unicode", "autocommit", "cursorclass")
        ),
        *(("mysql", f"{name}=/x") for name in ("read_default_file", "unix_socket", "local_infile", "isolation_level", "user", "passwd")),
        *(("postgres", f"{name}=x") for name in ("options", "client_encoding", "assume_role", "pool", "server_side_binding", "service")),
        *(("postgres", f"{name}=true") for name in ("isolation_level", "host", "autocommit", "atomic_requests", "conn_max_age", "foo")),
        *(("sqlite", f"{name}=1") for name in ("mode", "cache", "uri", "isolation_level", "transaction_mode", "init_command", "foo")),
    ],
)
def test_option_is_refused_by_name(kind: str, query: str) -> None:
    url = "sqlite:////data/dwh.sqlite3" if kind == "sqlite" else f"{kind}://user:pw@127.0.0.1/dwh"
    with pytest.raises(ImproperlyConfigured) as error:
        database(f"{url}?{query}", "mysql" if kind == "mysql" else "postgres")
    assert_refused(error, "DWH_URL")
    assert f"the option {query.partition('=')[0]} is refused: " in str(error.value)


@pytest.mark.parametrize(
    "query",
    [
        *(
            "connect_timeout=abc",
            "connect_timeout=99999999",
            "connect_timeout=0",
            "connect_timeout=",
            "connect_timeout",
            "connect_timeout=-1",
        ),
        *("connect_timeout=5&connect_timeout=5", "connect_timeout=%35%", "connect_timeout=%FF", "&", "=5", "a%20b=5"),
        *("connect_timeout=５", "connect_timeout=5&", "socket=run/mysqld.sock", "socket=/run/a%00b"),
    ],
)
def test_invalid_option(query: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        database(f"mysql://user:{quote(SECRET)}@127.0.0.1/dwh?{query}", "mysql")
    assert_refused(error, "DWH_URL")


def test_options_that_may_be_given() -> None:
    assert database("mysql://u:p@h/dwh?connect_timeout=%35", "mysql")["OPTIONS"] == {"connect_timeout": 5}
    options = "application_name=etl-2&keepalives_idle=30&connect_timeout=7"
    assert database(f"postgres://u:p@h/dwh?{options}")["OPTIONS"] == {
        "application_name": "etl-2",
        "keepalives_idle": 30,
        "connect_timeout": 7,
    }


def test_no_address_overrides_what_a_run_rests_on() -> None:
    from techmarket.options import ALLOWED
    from techmarket.settings import OPTIONS

    allowed = {name for options in ALLOWED.values() for name in options}
    assert allowed.isdisjoint(name for options in OPTIONS.values() for name in options)


# --- The broker's address: two libraries read it, each in its own way ---


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("?visibility_timeout=5", "the option visibility_timeout is refused: set CELERY_VISIBILITY_TIMEOUT"),
        ("?db=5", "the option db is refused: write the database's number after the last /"),
        ("?virtual_host=5", "the option virtual_host is refused: write the database's number"),
        ("?protocol=2", "the option protocol is refused: use those of TLS, or none"),
        (f"?foo={SECRET}", "the option foo is refused"),
        ("?transport=memory", "the option transport is refused"),
        ("?socket_timeout=100&socket_timeout=1", "the option socket_timeout is refused"),
        ("?&", "after the ? is something that is no option"),
        ("/x", "is not redis://:password@host:port/number"),
        ("/1", "is not redis://:password@host:port/number"),
        (";redis://other/0", "is not redis://:password@host:port/number"),
        (f"#{SECRET}", "is not redis://:password@host:port/number"),
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_broker_that_one_of_two_libraries_would_misread(scheme: str, query: str, cause: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment({"BROKER": f"{scheme}://:{quote(SECRET)}@127.0.0.1/0{query}"}).broker("BROKER", "filesystem://")
    assert_refused(error, "BROKER")
    assert cause in str(error.value)


@pytest.mark.parametrize("password", ["a%b", "100%", "%FF", "a%0Ab"])
def test_password_of_the_broker_is_percent_encoded(password: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"the user or the password (has|is not)") as error:
        Environment({"BROKER": f"redis://:{password}@127.0.0.1/0"}).broker("BROKER", "filesystem://")
    assert password not in str(error.value)


# --- Variables that the drivers read ---

SERVERS = {"ORDERS_DB_URL": "mysql://u:topsecret@127.0.0.1:1/orders", "DWH_URL": "postgres://u:topsecret@127.0.0.1:1/dwh"}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("PGOPTIONS", "-c TimeZone=Asia/Tokyo", "it is set by TechMarket, whose results depend on it"),
        ("PGTZ", "Asia/Tokyo", "it is set by TechMarket"),
        ("PGDATESTYLE", "SQL,DMY", "it is set by TechMarket"),
        ("PGCLIENTENCODING", "LATIN1", "it is set by TechMarket"),
        ("PGHOSTADDR", "127.0.0.9", "write it as the host of each address"),
        ("PGSERVICE", "shop", "such a file may set anything"),
        ("PGSSLMODE", "disable", "TLS is asked for in the address"),
        ("PGSSLROOTCERT", "/nowhere", "TLS is asked for in the address"),
        ("PGREQUIRESSL", "1", "TLS is asked for in the address"),
        ("PGTARGETSESSIONATTRS", "standby", "its value is not one of any, read-write, primary"),
        ("MARIADB_TLS_DISABLE_PEER_VERIFICATION", "1", "TLS is asked for in the address"),
    ],
)
def test_variable_of_a_driver_is_refused(run_cli: Cli, variable: str, value: str, reason: str) -> None:
    result = run_cli("run_etl", env=SERVERS | {variable: value})
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (4, "", 1), result.stderr
    assert result.stderr.startswith(f"{variable}: the database's driver would read this variable: ") and reason in result.stderr
    assert result.stderr.endswith(". Remove it from the environment.\n") and "topsecret" not in result.stderr


@pytest.mark.parametrize(
    ("variable", "name", "url"),
    [
        ("PGPORT", "DWH_URL", "postgres://u:p@127.0.0.1/dwh"),
        ("PGPORT", "DWH_URL", "postgres:///dwh?socket=/run/postgresql"),
        ("MYSQL_TCP_PORT", "ORDERS_DB_URL", "mysql://u:p@127.0.0.1/orders"),
        ("MYSQL_UNIX_PORT", "ORDERS_DB_URL", "mysql://u:p@localhost/orders"),
    ],
)
def test_variable_that_would_lead_elsewhere(run_cli: Cli, variable: str, name: str, url: str) -> None:
    result = run_cli("check", env=SERVERS | {name: url, variable: "1"})
    assert (result.returncode, result.stderr.count("\n")) == (4, 1) and result.stderr.startswith(f"{variable}: "), result.stderr


def test_other_variables_of_drivers_are_accepted() -> None:
    """Those that an address overrides, those that say who logs in, and those that may only keep a login from succeeding."""
    variables = (
        "PGPORT PGHOST PGUSER PGPASSWORD PGPASSFILE PGDATABASE PGAPPNAME PGREQUIREPEER PGDATA MYSQL_TCP_PORT MYSQL_UNIX_PORT MYSQL_PWD"
    )
    databases = [database("postgres://u:p@h:1/dwh"), database("mysql://u:p@h:1/orders", "mysql")]
    refuse_driver_variables(dict.fromkeys(variables.split(), "x") | {"PGGSSENCMODE": "disable", "PGOPTIONS": ""}, databases)
    refuse_driver_variables({"PGOPTIONS": "-c TimeZone=Asia/Tokyo", "PGPORT": "1"}, [database("")])


# --- Paths and sockets ---


@pytest.mark.parametrize(
    "path", ["/data/a#b.sqlite3", "/data/a?b&c=d", "/data/%20/x", "/data/a b", "/data/a+b", "/data/магазин", "/data/a@b"]
)
def test_path_of_a_file_is_percent_encoded(path: str) -> None:
    assert database(Path(path).as_uri().replace("file://", "sqlite:///", 1))["NAME"] == path


@pytest.mark.parametrize(
    "url", ["sqlite:////data/a#b", "sqlite:////data/a?b", "sqlite:////data/100%/b", "sqlite:///data/b", "sqlite:////%FF"]
)
def test_path_that_would_be_another_file(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        database(url)
    assert_refused(error, "DWH_URL")


@pytest.mark.parametrize(("kind", "socket"), [("mysql", "/run/mysqld/mysqld.sock"), ("postgres", "/run/postgresql")])
def test_socket(kind: str, socket: str) -> None:
    config = database(f"{kind}://user:pw@/dwh?socket={socket}", kind)
    assert (config["HOST"], config["NAME"], config["USER"]) == (socket, "dwh", "user")
    assert "OPTIONS" not in config
    assert database(f"{kind}:///dwh?socket={quote(socket, safe='')}", kind)["HOST"] == socket
    for url in (
        f"u:p@h/dwh?socket={socket}",
        f"u:p@{quote(socket, safe='')}/dwh",
        f"u:p@/dwh?host={socket}",
        f"u:p@/dwh?unix_socket={socket}",
    ):
        with pytest.raises(ImproperlyConfigured) as error:
            database(f"{kind}://{url}", kind)
        assert_refused(error, "DWH_URL")
        assert "?socket=" in str(error.value)


def test_localhost_with_a_port_is_that_port() -> None:
    """MySQL's client takes the default socket for localhost, whatever the port."""
    assert database("mysql://u:p@localhost:3307/shop", "mysql")["HOST"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("mysql", "/shop?socket=/run/mysqld/mysqld.sock", "localhost/shop", True),
        ("mysql", "/shop?socket=/run/mysqld/mysqld.sock", "/shop?socket=/run/mysqld/../mysqld/mysqld.sock", True),
        ("mysql", "/shop?socket=/srv/a.sock", "/shop?socket=/srv/b.sock", False),
        ("mysql", "/shop?socket=/run/mysqld/mysqld.sock", "127.0.0.1:3307/shop", False),
        ("postgres", "/shop?socket=/run/postgresql", "localhost/shop", True),
        ("postgres", ":5433/shop?socket=/run/postgresql", "127.0.0.2:5433/shop", True),
        ("postgres", ":5433/shop?socket=/run/postgresql", "localhost/shop", False),
    ],
)
def test_socket_and_port_may_be_one_server(kind: str, one: str, other: str, same: bool) -> None:
    from techmarket.environment import is_same_database

    assert is_same_database(database(f"{kind}://u:p@{one}", kind), database(f"{kind}://u:p@{other}", kind)) is same


# --- The settings file ---


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\n# comment\n  # another\nA=1\nexport B=x=y#z\n", {"A": "1", "B": "x=y#z"}),
        (b"A=1\r\nB='it is # so'\r\n", {"A": "1", "B": "it is # so"}),
        (rb'A="a\"b\\c\n"', {"A": r'a"b\c\n'}),
        ("A=Ніна \t\n".encode(), {"A": "Ніна"}),
        (b"A=\nB= \n", {"A": "", "B": ""}),
    ],
)
def test_settings_file(tmp_path: Path, content: bytes, expected: dict[str, str]) -> None:
    from techmarket.env_file import read_env_file

    (tmp_path / "env").write_bytes(content)
    assert read_env_file(tmp_path / "env", required=True) == expected
    assert read_env_file(tmp_path / "none", required=False) == {}


def test_settings_file_that_is_a_dangling_link(tmp_path: Path) -> None:
    """Also where it is not required, as `.env`."""
    from techmarket.env_file import read_env_file

    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ImproperlyConfigured, match="cannot read"):
        read_env_file(tmp_path / "link", required=False)


def test_names_of_compose_are_no_misspellings() -> None:
    from techmarket.env_file import refuse_misspelled

    text = "".join(path.read_text() for path in (*ROOT.glob("docker-compose*.yml"), ROOT / "Makefile"))
    names = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert len(names) > 20
    refuse_misspelled(names, documented(), ROOT / ".env")


def test_name_beside_the_right_one_is_no_misspelling() -> None:
    from techmarket.env_file import refuse_misspelled

    for right in ("CONTROL_DB_URL", "CONTROL_DB_URL_FILE"):
        refuse_misspelled({"CONTROL_DB_USER", right, "DEBUG", "DJANGO_DEBUG"}, documented(), "the environment")
    with pytest.raises(ImproperlyConfigured, match="there is no setting CONTROL_DB_USER, and CONTROL_DB_URL is much like it"):
        refuse_misspelled({"CONTROL_DB_USER"}, documented(), "the environment")
