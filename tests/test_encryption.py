"""One spelling of TLS in every address: what is refused at start, and how it is translated for each driver and client program."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection

from apps.backups.clients import Client
from apps.backups.stores.mysql import MySQL
from techmarket import encryption
from techmarket.environment import Environment

ADDRESSES = {"mysql": "mysql://user:canary@db.example.com/shop", "postgres": "postgres://user:canary@db.example.com/dwh"}
BROKER = "rediss://:canary@redis.example.com:6380/2"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The paths of four files, by the names that examples give them."""
    for name in ("ca.pem", "client.pem", "client.key"):
        (tmp_path / name).write_text("PEM")
        (tmp_path / name).chmod(0o600)
    return {f"/{path.name}": str(path) for path in tmp_path.iterdir()}


def fill_in(query: str, files: dict[str, str]) -> str:
    for name, path in files.items():
        query = query.replace(f"={name}", f"={path}")
    return query


def read(server: str, query: str, elsewhere: bool = False) -> dict[str, Any]:
    url = f"{ADDRESSES[server]}?{query}"
    return Environment({"A_URL": url}).database("A_URL", Path("/nowhere"), server, elsewhere)


def read_broker(url: str) -> str:
    return Environment({"CELERY_BROKER_URL": url}).broker("CELERY_BROKER_URL", "filesystem://")


def refuse(error: pytest.ExceptionInfo[ImproperlyConfigured], name: str, cause: str) -> str:
    """Assert a refusal on one line without values, and return the query of its example."""
    text = str(error.value)
    match = re.fullmatch(rf"{name}: (?P<cause>.+)\. Example: {name}=(?P<address>\S+)", text)
    assert match and cause in match["cause"], text
    assert "canary" not in text and "/nowhere" not in text
    return urlsplit(match["address"]).query


REFUSED = [
    ("ssl=true", "option 'ssl' is unknown; TLS is spelled sslmode, sslrootcert, sslcert, sslkey"),
    ("ssl={}", "option 'ssl' is unknown"),
    ("ssl=", "option 'ssl' is unknown"),
    ("ssl_mode=REQUIRED", "option 'ssl_mode' is unknown"),
    ("ssl-mode=VERIFY_CA", "option 'ssl-mode' is unknown"),
    ("ssl_ca=/ca.pem", "option 'ssl_ca' is unknown"),
    ("useSSL=true", "option 'useSSL' is unknown"),
    ("tls=1", "option 'tls' is unknown"),
    ("tls_version=TLSv1.2", "option 'tls_version' is unknown"),
    ("SSLMODE=require", "option 'SSLMODE' is unknown"),
    ("sslmode=require&ssl_cert=/client.pem", "option 'ssl_cert' is unknown"),
    ("sslmode=", "sslmode is not one of disable, prefer, require, verify-ca, verify-full"),
    ("sslmode=REQUIRED", "sslmode is not one of"),
    ("sslmode=allow", "sslmode is not one of"),
    ("sslmode=disable&sslmode=require", "sslmode is given twice"),
    ("sslrootcert=/ca.pem", "sslrootcert is given with no sslmode"),
    ("sslmode=prefer&sslrootcert=/ca.pem", "sslrootcert is given with sslmode=prefer"),
    ("sslmode=disable&sslcert=/client.pem&sslkey=/client.key", "sslcert is given with sslmode=disable"),
    ("sslmode=require&sslcert=/client.pem", "sslcert and sslkey are needed together"),
    ("sslmode=require&sslkey=/client.key", "sslcert and sslkey are needed together"),
    ("sslmode=verify-full", "sslmode=verify-full needs sslrootcert"),
    ("sslmode=verify-ca", "sslmode=verify-ca needs sslrootcert"),
    ("sslmode=verify-ca&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
    ("sslmode=verify-full&sslrootcert=/nowhere", "cannot read the file of sslrootcert (No such file or directory)"),
    ("sslmode=verify-full&sslrootcert=/", "cannot read the file of sslrootcert (Is a directory)"),
    ("sslmode=verify-full&sslrootcert=ca.pem", "sslrootcert is not an absolute path"),
    ("sslmode=verify-full&sslrootcert=", "sslrootcert is not an absolute path"),
    ("sslmode=verify-full&sslrootcert=-----BEGIN%20CERTIFICATE-----canary", "sslrootcert is not an absolute path"),
    ("sslmode=require&sslcert=/nowhere&sslkey=/client.key", "cannot read the file of sslcert (No such file or directory)"),
]


@pytest.mark.parametrize("server", ADDRESSES)
@pytest.mark.parametrize(("query", "cause"), REFUSED)
def test_refused_spellings(server: str, query: str, cause: str, files: dict[str, str]) -> None:
    """Each names the option and shows an address that is accepted."""
    with pytest.raises(ImproperlyConfigured) as error:
        read(server, fill_in(query, files))
    example = refuse(error, "A_URL", cause)
    assert read(server, fill_in(example, files))["SSLMODE"] in encryption.ENFORCED


@pytest.mark.parametrize("server", ADDRESSES)
@pytest.mark.parametrize(
    ("query", "example"),
    [
        ("ssl_mode=REQUIRED", "sslmode=require"),
        ("ssl_mode=VERIFY_IDENTITY&ssl_ca=/x.pem", "sslmode=verify-full&sslrootcert=/ca.pem"),
        ("ssl_mode=VERIFY_CA", "sslmode=verify-ca&sslrootcert=/ca.pem"),
        ("ssl_ca=/x.pem", "sslmode=verify-full&sslrootcert=/ca.pem"),
        ("ssl_cert=/x.pem&ssl_key=/x.key", "sslmode=require&sslcert=/client.pem&sslkey=/client.key"),
    ],
)
def test_example_asks_for_the_same(server: str, query: str, example: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        read(server, query)
    assert refuse(error, "A_URL", "is unknown") == example


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_the_right_to_read(files: dict[str, str]) -> None:
    Path(files["/ca.pem"]).chmod(0)
    with pytest.raises(ImproperlyConfigured) as error:
        read("mysql", fill_in("sslmode=verify-ca&sslrootcert=/ca.pem", files))
    refuse(error, "A_URL", "cannot read the file of sslrootcert (Permission denied)")


def test_key_that_others_may_read(files: dict[str, str]) -> None:
    """libpq refuses it, and would say so only when it connects."""
    query = fill_in("sslmode=require&sslcert=/client.pem&sslkey=/client.key", files)
    Path(files["/client.key"]).chmod(0o644)
    with pytest.raises(ImproperlyConfigured) as error:
        read("postgres", query)
    refuse(error, "A_URL", "others may read the file of sslkey")
    assert read("mysql", query)["SSLMODE"] == "require"


# --- Translations ---

WHOLE = "&sslrootcert=/ca.pem&sslcert=/client.pem&sslkey=/client.key"


def test_postgres_takes_it_as_it_is(files: dict[str, str]) -> None:
    for mode in ("disable", "prefer", "require"):
        assert read("postgres", f"sslmode={mode}")["OPTIONS"] == {"sslmode": mode}
    query = fill_in(f"sslmode=verify-full{WHOLE}&keepalives=1", files)
    names = {"sslrootcert": files["/ca.pem"], "sslcert": files["/client.pem"], "sslkey": files["/client.key"]}
    assert read("postgres", query)["OPTIONS"] == {"sslmode": "verify-full", "keepalives": 1} | names
    assert "SSLMODE" not in read("postgres", "")


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("3.3.20", ["DISABLED", "REQUIRED", "REQUIRED", "REQUIRED", "REQUIRED", "VERIFY_IDENTITY"]),
        ("10.5.8-MariaDB", ["DISABLED", "REQUIRED", "REQUIRED", "REQUIRED", "REQUIRED", "VERIFY_IDENTITY"]),
        ("8.4.3", ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_CA", "VERIFY_IDENTITY"]),
        ("9.7.4", ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_CA", "VERIFY_IDENTITY"]),
    ],
)
def test_mysqlclient_of_both_libraries(version: str, names: list[str], files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connector/C checks the authority where it has one, and the host's name with VERIFY_IDENTITY; its VERIFY_CA checks both."""
    monkeypatch.setattr("MySQLdb.get_client_info", lambda: version)
    ca = {"ca": files["/ca.pem"]}
    whole = ca | {"cert": files["/client.pem"], "key": files["/client.key"]}
    queries = ["disable", "prefer", "require", "require&sslrootcert=/ca.pem", "verify-ca&sslrootcert=/ca.pem", f"verify-full{WHOLE}"]
    configs = [read("mysql", fill_in(f"sslmode={query}", files)) for query in queries]
    assert [config["OPTIONS"]["ssl_mode"] for config in configs] == names
    assert [config["OPTIONS"].get("ssl") for config in configs] == [None, None, None, ca, ca, whole]
    assert [config["SSLMODE"] for config in configs] == ["disable", "prefer", "require", "require", "verify-ca", "verify-full"]
    assert "OPTIONS" not in read("mysql", "")


@pytest.mark.parametrize(
    ("query", "mariadb", "mysql"),
    [
        ("", ["--loose-skip-ssl-verify-server-cert"], []),
        ("sslmode=disable", ["--skip-ssl"], ["--ssl-mode=DISABLED"]),
        ("sslmode=prefer", ["--ssl", "--loose-skip-ssl-verify-server-cert"], ["--ssl-mode=PREFERRED"]),
        ("sslmode=require", ["--ssl", "--loose-skip-ssl-verify-server-cert"], ["--ssl-mode=REQUIRED"]),
        ("sslmode=require&sslrootcert=/ca.pem", ["--ssl-ca=/ca.pem", "--ssl"], ["--ssl-ca=/ca.pem", "--ssl-mode=VERIFY_CA"]),
        ("sslmode=verify-ca&sslrootcert=/ca.pem", ["--ssl-ca=/ca.pem", "--ssl"], ["--ssl-ca=/ca.pem", "--ssl-mode=VERIFY_CA"]),
        (
            f"sslmode=verify-full{WHOLE}",
            ["--ssl-ca=/ca.pem", "--ssl-cert=/client.pem", "--ssl-key=/client.key", "--ssl", "--ssl-verify-server-cert"],
            ["--ssl-ca=/ca.pem", "--ssl-cert=/client.pem", "--ssl-key=/client.key", "--ssl-mode=VERIFY_IDENTITY"],
        ),
    ],
)
def test_client_programs_of_both_vendors(query: str, mariadb: list[str], mysql: list[str], files: dict[str, str]) -> None:
    store = MySQL("orders_db")
    store.settings = {"PORT": 3306, "OPTIONS": {}} | read("mysql", fill_in(query, files))
    for version, expected in (("mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB", mariadb), ("mysqldump  Ver 8.4.3", mysql)):
        arguments = store.connection_arguments(Client("/usr/bin/mysqldump", version))
        assert [argument for argument in arguments if "ssl" in argument] == [fill_in(each, files) for each in expected]


def test_authorities_of_the_machine(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    paths = type("Paths", (), {"cafile": files["/ca.pem"]})
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: paths)
    query = "sslmode=verify-full&sslrootcert=system"
    assert read("postgres", query)["OPTIONS"]["sslrootcert"] == files["/ca.pem"]
    assert read("mysql", query)["OPTIONS"]["ssl"] == {"ca": files["/ca.pem"]}
    monkeypatch.setattr(paths, "cafile", None)
    with pytest.raises(ImproperlyConfigured) as error:
        read("mysql", query)
    refuse(error, "A_URL", "this machine has no file of authorities")


def test_address_for_another_machine_has_no_files(files: dict[str, str]) -> None:
    assert read("postgres", "sslmode=verify-full", elsewhere=True)["OPTIONS"] == {"sslmode": "verify-full"}
    with pytest.raises(ImproperlyConfigured) as error:
        read("postgres", fill_in("sslmode=verify-full&sslrootcert=/ca.pem", files), elsewhere=True)
    refuse(error, "A_URL", "option 'sslrootcert' is unknown; TLS is spelled sslmode")


# --- Redis ---


@pytest.mark.parametrize(
    ("query", "requirement", "checks_host"),
    [
        ("", "required", True),  # Celery alone would check nothing here
        ("sslmode=require", "none", False),
        ("sslmode=require&sslrootcert=/ca.pem", "required", False),
        ("sslmode=verify-ca&sslrootcert=/ca.pem", "required", False),
        (f"sslmode=verify-full{WHOLE}", "required", True),
        (WHOLE[1:], "required", True),
        ("ssl_cert_reqs=required", "required", True),
        ("ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem", "required", True),
        ("ssl_cert_reqs=optional", "required", True),
        ("ssl_cert_reqs=CERT_OPTIONAL", "required", True),
        ("ssl_cert_reqs=none", "none", False),
        ("ssl_cert_reqs=CERT_NONE", "none", False),
        ("ssl_check_hostname=false&ssl_ca_certs=/ca.pem", "required", False),
        ("ssl_ca_certs=/ca.pem&ssl_certfile=/client.pem&ssl_keyfile=/client.key", "required", True),
    ],
)
def test_redis_is_the_same_to_both_libraries(query: str, requirement: str, checks_host: bool, files: dict[str, str]) -> None:
    url = read_broker(f"{BROKER}?{fill_in(query, files)}")
    ours = redis.connection.parse_url(url)
    theirs = Connection(url).ssl
    assert (ours["ssl_cert_reqs"], ours["ssl_check_hostname"]) == (requirement, checks_host)
    assert (theirs["ssl_cert_reqs"].name, theirs["ssl_check_hostname"]) == (f"CERT_{requirement.upper()}", checks_host)
    assert (ours["password"], ours["host"], ours["port"], ours["db"]) == ("canary", "redis.example.com", 6380, 2)
    for name, path in (("ssl_ca_certs", "/ca.pem"), ("ssl_certfile", "/client.pem"), ("ssl_keyfile", "/client.key")):
        assert ours.get(name) == theirs.get(name) == (files[path] if path in query else None)


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("sslmode=disable", "rediss:// is always encrypted; sslmode is one of require, verify-ca, verify-full"),
        ("sslmode=prefer", "rediss:// is always encrypted"),
        ("ssl=true", "option 'ssl' is unknown"),
        ("ssl_cert_reqs=maybe", "ssl_cert_reqs is not one of required, optional, none"),
        ("ssl_cert_reqs=", "ssl_cert_reqs is not one of required, optional, none"),
        ("ssl_check_hostname=perhaps", "ssl_check_hostname is neither true nor false"),
        ("ssl_cert_reqs=required&sslmode=require", "sslmode is given beside ssl_cert_reqs; keep one"),
        ("ssl_cert_reqs=required&ssl_ca_data=canary", "option 'ssl_ca_data' is unknown"),
        ("ssl_cert_reqs=required&ssl_ca_certs=/nowhere", "cannot read the file of sslrootcert (No such file or directory)"),
        ("sslmode=verify-full&sslrootcert=/nowhere", "cannot read the file of sslrootcert (No such file or directory)"),
        ("sslcert=/nowhere", "sslcert and sslkey are needed together"),
    ],
)
def test_refused_spellings_of_redis(query: str, cause: str, files: dict[str, str]) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        read_broker(f"{BROKER}?{query}")
    example = refuse(error, "CELERY_BROKER_URL", cause)
    read_broker(f"{BROKER}?{fill_in(example, files)}")


@pytest.mark.parametrize("query", ["ssl=true", "sslmode=require", "ssl_cert_reqs=required", "sslmode=verify-full&sslrootcert=/ca.pem"])
def test_plain_redis_that_asks_for_encryption(query: str, files: dict[str, str]) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        read_broker(f"redis://:canary@redis.example.com/0?{fill_in(query, files)}")
    example = refuse(error, "CELERY_BROKER_URL", "begins with redis:// instead of rediss://")
    assert "Example: CELERY_BROKER_URL=rediss://" in str(error.value)
    read_broker(f"{BROKER}?{fill_in(example, files)}")


def test_plain_redis_may_say_that_it_is_plain() -> None:
    assert read_broker("redis://:canary@redis.example.com/0?sslmode=disable") == "redis://:canary@redis.example.com/0"
    assert read_broker("redis://:p%40s@h/0") == "redis://:p%40s@h/0"
