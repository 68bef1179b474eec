"""The options that the address of a server may have, by its kind. Any other is refused by name: it might change what a run rests on.

What a run rests on is set in techmarket/sessions.py and in OPTIONS of settings.py, which no URL overrides. The drivers read variables of
the environment, too: those are held to the rules of the options that they stand for.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from techmarket.encryption import SMELLS_OF_TLS

Parse = Callable[[str], Any]
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
SET_HERE = "it is set by TechMarket, whose results depend on it"
SOCKET = "write ?socket=/run/mysqld/mysqld.sock, or ?socket=/run/postgresql"
ANY_FILE = "such a file may set anything; write its host, user and password in the URL"
TLS = "TLS is asked for in the address, as ?sslmode=verify-full&sslrootcert=/ca.pem"
PORT = "write the port in each address"


def number(low: int, high: int) -> Parse:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def choice(*choices: str) -> Parse:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return text

    return parse


def name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", text):  # PostgreSQL cuts a longer one and replaces other letters
        raise ValueError("is not of 1 to 63 letters, digits, _, . and -")
    return text


def path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError("is not an absolute path")
    return text


def socket_folder(text: str) -> str:
    if match := re.fullmatch(r".*/(\.s\.PGSQL\.([0-9]+))", text):  # libpq would look for such a socket in a folder of this name
        raise ValueError(f"names the socket {match[1]}; name its folder, and write the port as postgres://user:password@:{match[2]}/name")
    return path(text)


SECONDS = number(1, 600)
# `socket` becomes the host, in environment.py.
ALLOWED: dict[str, dict[str, Parse]] = {
    "sqlite": {"timeout": SECONDS},
    "mysql": {"connect_timeout": SECONDS, "read_timeout": number(1, 3600), "socket": path},
    "postgres": {
        "application_name": name,
        "channel_binding": choice("disable", "prefer", "require"),
        "connect_timeout": SECONDS,
        "gssencmode": choice("disable", "prefer", "require"),
        "keepalives": number(0, 1),
        "keepalives_count": number(1, 100),
        "keepalives_idle": number(1, 7200),
        "keepalives_interval": number(1, 7200),
        "passfile": path,
        "socket": socket_folder,
        "target_session_attrs": choice("any", "read-write", "primary"),
        "tcp_user_timeout": number(0, 3_600_000),
    },
    "redis": {},  # redis-py and Celery, which share the address, have no option in common
}
# Why a driver's option is refused, where the list of those that are allowed says too little.
REFUSED = dict.fromkeys(
    (
        *("autocommit", "charset", "client_encoding", "client_flag", "collation", "conv", "cursorclass", "cursor_factory", "datestyle"),
        *("init_command", "isolation_level", "multi_statements", "options", "pool", "prepare_threshold", "server_side_binding", "sql_mode"),
        *("time_zone", "timezone", "transaction_mode", "use_unicode", "assume_role", "binary_prefix"),
    ),
    SET_HERE,
) | {
    "host": SOCKET,
    "hostaddr": "write it as the host of each address",
    "unix_socket": SOCKET,
    "local_infile": "a source could read files of this machine with it",
    "read_default_file": ANY_FILE,
    "read_default_group": ANY_FILE,
    "service": ANY_FILE,
}
REFUSED_OF_REDIS = {
    "visibility_timeout": "set CELERY_VISIBILITY_TIMEOUT",
    **dict.fromkeys(("db", "virtual_host"), "write the database's number after the last /"),
    **dict.fromkeys(("username", "password"), "write redis://user:password@host"),
}
# Variables of libpq for settings of a session, which it does not list among its options.
MORE_VARIABLES = {"PGDATESTYLE": "datestyle", "PGTZ": "timezone", "PGREQUIRESSL": "sslmode"}
# Options of libpq that an address or settings.py names anyway, or that say only who logs in.
NAMED_ANYWAY = {"application_name", "connect_timeout", "dbname", "host", "passfile", "password", "user"}


def parse_options(query: str, kind: str) -> dict[str, Any]:
    """Return the options of a URL for one kind of ALLOWED, without those of TLS. Raises ValueError with the cause, which shows no value."""
    options: dict[str, Any] = {}
    for pair in query.split("&") if query else []:
        key, equals, text = pair.partition("=")
        if not NAME.fullmatch(key):
            raise ValueError("after the ? is something that is no option; in a password or a path write ? as %3F, # as %23 and % as %25")
        if key in options:
            raise ValueError(f"the option {key} is given twice")
        if kind == "sqlite" or not SMELLS_OF_TLS.search(key):  # else techmarket/encryption.py reads it
            options[key] = parse_option(kind, key, text if equals else "")
    return options


def parse_option(kind: str, key: str, text: str) -> Any:
    allowed = ALLOWED[kind]
    if key not in allowed:
        reasons = REFUSED_OF_REDIS if kind == "redis" else REFUSED
        reason = reasons.get(key.lower()) or (f"use {', '.join(sorted(allowed))}, or none" if allowed else "use those of TLS, or none")
        raise ValueError(f"the option {key} is refused: {reason}")
    if not text:
        raise ValueError(f"the option {key} has no value")
    try:
        return allowed[key](decode(text, plus=True))
    except ValueError as error:
        raise ValueError(f"the option {key} {error}") from None


def find_refused_variable(environ: Mapping[str, str], kind: str, databases: list[Mapping[str, Any]]) -> tuple[str, str]:
    """Return name and reason of a variable that the driver would read for the databases on servers of this kind; or two empty texts."""
    refusals = refuse_postgres_variables(environ, databases) if kind == "postgres" else refuse_mysql_variables(databases)
    return next(((name, reason) for name, reason in refusals if environ.get(name)), ("", ""))


def refuse_postgres_variables(environ: Mapping[str, str], databases: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield libpq's variables with the reason to refuse them. What no rule knows may only keep a login from succeeding."""
    from psycopg import pq  # not for deploy/healthcheck.py

    listed = {each.envvar.decode(): each.keyword.decode() for each in pq.Conninfo.get_defaults() if each.envvar}
    for name, option in (listed | MORE_VARIABLES).items():
        if option in NAMED_ANYWAY:
            continue
        if option == "port" and not all(database.get("PORT") for database in databases):
            yield name, PORT
        elif SMELLS_OF_TLS.search(option):
            yield name, TLS
        elif option in REFUSED:
            yield name, REFUSED[option]
        elif option in ALLOWED["postgres"]:
            try:
                ALLOWED["postgres"][option](environ.get(name, ""))
            except ValueError as error:
                yield name, f"its value {error}"


def refuse_mysql_variables(databases: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    if not all(database.get("PORT") or str(database["HOST"]).startswith("/") for database in databases):
        yield "MYSQL_TCP_PORT", PORT
    if any(database["HOST"] == "localhost" for database in databases):
        yield "MYSQL_UNIX_PORT", SOCKET
    yield "MARIADB_TLS_DISABLE_PEER_VERIFICATION", TLS


def decode(text: str, plus: bool = False) -> str:
    """Decode %XX. Raises ValueError where a % means nothing, or where the bytes are not UTF-8."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("has a % that is not percent-encoded; write it as %25")
    try:
        decoded = unquote_plus(text if plus else text.replace("+", "%2B"), errors="strict")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 where it is percent-encoded") from None
    if not decoded.isprintable():
        raise ValueError("has a control character")
    return decoded
