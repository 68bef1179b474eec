"""Settings: whatever a variable, an address or a settings file holds, a value within its contract or one line that names the variable."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http.request import split_domain_port, validate_host
from hypothesis import example, given
from hypothesis import strategies as st

from techmarket.batch_address import BatchAddress, parse_batch_address
from techmarket.env_file import read_env_file, refuse_misspelled
from techmarket.environment import Environment, refuse_driver_variables, refuse_shared_databases
from techmarket.options import decode
from tests.fuzz.inputs import SECRET, damaged, fuzzed, spliced, texts, variables

NAME = "DWH_URL"
Read = Callable[[Environment], Any]


def read(read_value: Read, value: str) -> Any:
    """Return what the setting is read as; None where it is refused in one line that names it, without a secret."""
    try:
        return read_value(Environment({NAME: value}))
    except ImproperlyConfigured as error:
        check_refusal(str(error))
        return None


def check_refusal(text: str, name: str = NAME) -> None:
    assert text.startswith(f"{name}: ") and " Example: " in text
    assert text.isprintable(), "one line, without an escape of a terminal"
    assert SECRET not in text and SECRET[:9] not in text


# --- Plain values ---


@fuzzed()
@given(value=st.one_of(variables, st.from_regex(r"\A[+-]?[0-9_]{0,25}\Z"), st.integers().map(str)))
def test_number_is_within_its_bounds(value: str) -> None:
    found = read(lambda env: env.number(NAME, 5, -10, 1000), value)
    assert found is None or (type(found) is int and -10 <= found <= 1000 and f"{found}" == f"{int(value)}")
    is_plain = bool(re.fullmatch(r"-?(0|[1-9][0-9]*)", value)) and value != "-0"
    assert found is not None or not (is_plain and len(value) < 6 and -10 <= int(value) <= 1000)


@fuzzed()
@given(value=st.one_of(variables, st.sampled_from(["TRUE", "oN", "No", " 1 ", "0"])))
def test_flag_is_one_of_two(value: str) -> None:
    assert read(lambda env: env.flag(NAME, True), value) in (None, True, False)


@fuzzed()
@given(value=variables)
def test_choice_is_one_of_those_offered(value: str) -> None:
    assert read(lambda env: env.choice(NAME, "json", ("json", "console")), value) in (None, "json", "console")


@fuzzed()
@given(value=st.one_of(variables, spliced(["/", ""], ["var", "..", "x" * 300, "~"], ["/lib", ""])))
def test_folder_is_absolute(value: str) -> None:
    found = read(lambda env: env.folder(NAME, Path("/var"), "/var"), value)
    assert found is None or found.is_absolute()


@fuzzed()
@given(value=st.one_of(variables, spliced(["Europe", "..", "/etc", "UTC"], ["/", ""], ["Kyiv", "passwd", "", "x" * 300])))
def test_zone_is_one_that_there_is(value: str) -> None:
    found = read(lambda env: env.zone(NAME, "Europe/Kyiv"), value)
    assert found is None or ZoneInfo(found).key == found


@fuzzed()
@given(value=st.one_of(variables, spliced(["etl.", ".", "*", "["], ["example", "::1", "пошта"], [".com", "]", ":80", "/"], ["", ",a.b"])))
def test_host_is_one_that_a_request_may_name(value: str) -> None:
    for host in read(lambda env: env.hosts(NAME, "", "etl.example.com"), value) or []:
        named = host.lstrip(".").lower()
        assert host == "*" or validate_host(split_domain_port(named)[0] or named, [host]) or not split_domain_port(named)[0]


addresses = st.one_of(st.ip_addresses().map(str), st.ip_addresses().map(lambda ip: f"::ffff:{ip}"))


@fuzzed()
@given(
    value=st.one_of(
        variables, st.tuples(addresses, st.sampled_from(["/8", "/0", "/128", "/32", "/-1", "/a", "", "%eth0", ",1.2.3.4"])).map("".join)
    )
)
def test_network_is_not_every_address(value: str) -> None:
    for network in read(lambda env: env.networks(NAME, "", "10.0.0.0/8"), value) or []:
        assert network.prefixlen > 0


WEB = spliced(
    ["http://", "https://", "HTTP://", "//", "ftp://", ""],
    ["example.com", "[::1]", "127.0.0.1", f"user:{SECRET}@host", "[", "пошта.укр", ""],
    ["", ":80", ":0", ":65536", ":x", ":"],
    ["", "/", f"/hooks/{SECRET}", "?a=b", "#f", " x", "\x1b[31m"],
)


@fuzzed()
@given(value=st.one_of(variables, WEB))
def test_web_address_has_a_host_and_is_never_shown(value: str) -> None:
    found = read(lambda env: env.web_address(NAME, "", "https://chat.example.com/hooks/etl"), value)
    if found:
        address = urlsplit(found)
        assert address.scheme in ("http", "https") and address.hostname and (address.port is None or 0 < address.port < 65536)
        assert found.isprintable()


@fuzzed()
@given(value=st.one_of(variables, WEB.filter(lambda url: SECRET not in url)))
def test_origin_is_what_a_browser_sends(value: str) -> None:
    for origin in read(lambda env: env.origins(NAME, "", "https://etl.example.com"), value) or []:
        assert re.fullmatch(r"https?://[^/@?#\s]+", origin), origin


# --- Addresses of servers ---

SERVER = spliced(
    [
        "postgres://",
        "mysql://",
        "postgresql://",
        "POSTGRES://",
        "sqlite:///",
        "sqlite://",
        "redis://",
        "rediss://",
        "file:///",
        "s3://",
        "",
    ],
    ["user", "u%40", "", "u%zz", "%00"],
    [f":{SECRET}", f":{SECRET}/x", f":{SECRET}#x", f":{SECRET}?x", f":{quote(SECRET + '@', safe='')}", f":%ff{SECRET}", ""],
    ["@", "", "@@"],
    ["host", "localhost", "127.0.0.1", "[::1]", "[::1", "h1,h2", "%2Frun", ""],
    ["", ":5432", ":0", ":99999", ":x", ":"],
    ["/", "", "//"],
    ["name", "", "x" * 70, "a%2Fb", "0", "15", "Їжак", "a@b"],
    [
        "",
        "?",
        "?sslmode=require",
        "?socket=/run/postgresql",
        "?connect_timeout=5",
        "?password=" + SECRET,
        "?sslkey=/k&sslcert=/c",
        "?region=x",
    ],
    ["", "&", "&a=b", "&sslmode=verify-full", f"#{SECRET}", "&sslrootcert=/none", "&ssl_cert_reqs=none", "&socket=relative"],
)


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
@fuzzed(2)
@given(value=st.one_of(SERVER, SERVER, variables))
@example(value="postgres://u:p@h/" + "x" * 63)
def test_database_has_a_host_and_a_name_or_a_file(kind: str, value: str) -> None:
    found = read(lambda env: env.database(NAME, Path("/var/x.sqlite3"), kind), value)
    if found is None:
        return
    assert isinstance(found["NAME"], str) and found["NAME"]
    if found["ENGINE"].endswith("sqlite3"):
        assert Path(found["NAME"]).is_absolute()
    else:
        assert found["HOST"] and not found["HOST"].endswith("@") and len(found["NAME"].encode()) <= 256
        assert not found.get("PORT") or 0 < int(found["PORT"]) < 65536
        assert all(text.isprintable() for text in (found["NAME"], found["USER"], found["PASSWORD"], found["HOST"]))
    check_others_take(found)


def check_others_take(database: Mapping[str, Any]) -> None:
    """What the settings ask of all databases together answers for any of them."""
    other = {"ENGINE": database["ENGINE"], "NAME": "/none", "HOST": "h", "PORT": ""}
    for check in (
        lambda: refuse_shared_databases({"dwh": database, "other": other}, {"dwh": NAME, "other": "OTHER_URL"}),
        lambda: refuse_driver_variables({"PGHOSTADDR": SECRET, "PGPORT": SECRET, "MYSQL_UNIX_PORT": SECRET}, [database]),
    ):
        try:
            check()
        except ImproperlyConfigured as error:
            assert SECRET not in str(error) and str(error).isprintable()


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@fuzzed()
@given(
    user=printable,
    password=printable,
    name=printable.filter(lambda text: len(text.encode()) < 60 and text[0] != "/"),
    port=st.integers(1, 65535),
)
def test_address_that_is_encoded_is_read_back(user: str, password: str, name: str, port: int) -> None:
    for kind in ("postgres", "mysql"):
        url = f"{kind}://{quote(user, safe='')}:{quote(password, safe='')}@db.example.com:{port}/{quote(name, safe='')}"
        found = Environment({NAME: url}).database(NAME, Path("/x"), kind)
        assert (found["USER"], found["PASSWORD"], found["NAME"], found["HOST"], found["PORT"]) == (
            user,
            password,
            name,
            "db.example.com",
            port,
        )


@fuzzed(2)
@given(value=st.one_of(SERVER, SERVER, variables))
def test_broker_is_one_spelling_that_is_read_again(value: str) -> None:
    found = read(lambda env: env.broker(NAME, "filesystem://"), value)
    if found is not None and found != "filesystem://":
        assert urlsplit(found).scheme in ("redis", "rediss") and urlsplit(found).hostname
        assert read(lambda env: env.broker(NAME, "filesystem://"), found) == found


STORE = spliced(
    ["s3://", "file:///", "file://", "S3://", ""],
    ["bucket", "b", "a.b-c", f"AKIA:{SECRET}@bucket", "srv", "..", "%2e%2e", ""],
    ["/", "", "//", "/./"],
    ["prefix", "%ff", "%0a", "a#b", "Їжак", ""],
    ["", "?region=eu", "?scheme=http", f"?secret_key={SECRET}", "?endpoint_override=10.0.0.5:9000", f"?region={SECRET}!"],
    ["", "&region=x", "&scheme=https", "&"],
)
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET, "AWS_REGION": "eu-central-1"}


@fuzzed(2)
@given(value=st.one_of(STORE, STORE, variables), keys=st.sampled_from([KEYS, dict.fromkeys(KEYS, ""), KEYS | {"AWS_ACCESS_KEY_ID": ""}]))
def test_batch_store_is_a_folder_or_a_bucket(value: str, keys: Mapping[str, str]) -> None:
    found: BatchAddress | None = read(lambda env: env.batch_store(NAME, "", keys), value)
    if found is None:
        return
    parts = found.path.removeprefix("/").split("/")
    assert found.path and not {"", ".", ".."} & set(parts) and found.path.isprintable()
    assert found.is_folder or (SECRET not in repr(found) and SECRET not in found.place)
    spelled = f"{found.scheme}://{quote(found.path)}"
    assert parse_batch_address(spelled, keys).path == found.path


@fuzzed()
@given(text=st.one_of(texts, spliced(["%", "%4", "%41", "%ff", "+"], ["%c3%97", "%zz", ""])))
def test_decoding_is_undone_by_encoding(text: str) -> None:
    try:
        decoded = decode(text)
    except ValueError as error:
        assert str(error) in DECODE_REFUSALS
        return
    assert decoded.isprintable() and decode(quote(decoded, safe="")) == decoded


DECODE_REFUSALS = {
    "has a % that is not percent-encoded; write it as %25",
    "is not UTF-8 where it is percent-encoded",
    "has a control character",
}

# --- Files ---

LINES = st.lists(
    st.one_of(
        spliced(
            ["DEBUG", "export SECRET_KEY", " X", "CONTOL_DB_URL", "1A", "#"],
            ["=", " = ", ""],
            [f"'{SECRET}'", f'"{SECRET}', SECRET, "$(x)"],
        ),
        texts,
    ),
    max_size=4,
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))
WHOLE = f"# a comment\nDEBUG=false\r\nexport SECRET_KEY='{SECRET}'\nDWH_URL=\"postgres://u:{SECRET}@h/n\"\n".encode()


@pytest.fixture(scope="module")
def folder() -> Any:
    with TemporaryDirectory() as path:
        yield Path(path)


@fuzzed(2)
@given(content=st.one_of(LINES, st.binary(max_size=80), damaged(WHOLE)))
def test_settings_file_is_read_or_refused_by_its_line(folder: Path, content: bytes) -> None:
    path = folder / "env"
    path.write_bytes(content)
    try:
        found = read_env_file(path, required=True)
        refuse_misspelled(found, {"DEBUG", "SECRET_KEY", "CONTROL_DB_URL"}, path)
    except ImproperlyConfigured as error:
        assert SECRET not in str(error) and str(error).isprintable() and "Example" in str(error)
        return
    for name, value in found.items():
        assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and value.replace("\t", " ").isprintable()


@fuzzed()
@given(
    values=st.dictionaries(st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,8}\Z"), st.text(st.characters(exclude_categories=["C", "Z"])), max_size=4)
)
def test_settings_in_single_quotes_are_read_back(folder: Path, values: dict[str, str]) -> None:
    values = {name: value.replace("'", "") for name, value in values.items()}
    path = folder / "env"
    path.write_text("".join(f"{name}='{value}'\n" for name, value in values.items()), encoding="utf-8")
    assert read_env_file(path, required=True) == values


@fuzzed()
@given(content=st.one_of(st.binary(max_size=60), damaged(f"{SECRET}\n".encode())))
def test_file_of_a_value_holds_one_line(folder: Path, content: bytes) -> None:
    path = folder / "value"
    path.write_bytes(content)
    try:
        value = Environment({f"{NAME}_FILE": str(path)}).text(NAME, "", "x")
    except ImproperlyConfigured as error:
        check_refusal(str(error), f"{NAME}_FILE")
        return
    assert value and value == value.strip() and not {"\n", "\r"} & set(value)
