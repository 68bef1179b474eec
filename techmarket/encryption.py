"""TLS to the databases and to Redis: one spelling in every address, libpq's, and a look at each connection where encryption was asked for.

`sslmode` is disable, prefer, require, verify-ca or verify-full; `sslrootcert`, `sslcert` and `sslkey` name files. Drivers that spell it
otherwise get a translation. What else smells of TLS is refused: the drivers take it and connect in plain text.
"""

import re
import ssl
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
ENFORCED = MODES[2:]  # with these a connection in plain text is refused
FILES = ("sslrootcert", "sslcert", "sslkey")
NAMES = ("sslmode", *FILES)
SYSTEM = "system"  # as libpq 16 has it: the authorities that this machine trusts
SMELLS_OF_TLS = re.compile("ssl|tls", re.IGNORECASE)
MODE_OF_MYSQL = {
    "DISABLED": "disable",
    "PREFERRED": "prefer",
    "REQUIRED": "require",
    "VERIFY_CA": "verify-ca",
    "VERIFY_IDENTITY": "verify-full",
}
# The C libraries under mysqlclient differ. Connector/C takes REQUIRED as a wish and connects in plain text to a server without TLS, which
# is why each connection is looked at. It checks the certificate where it has an authority, and the host's name only with VERIFY_IDENTITY;
# its VERIFY_CA is the same. Without ssl_mode it does not try TLS at all.
CONNECTOR_C = dict.fromkeys(MODES, "REQUIRED") | {"disable": "DISABLED", "verify-full": "VERIFY_IDENTITY"}
LIBMYSQLCLIENT = {mode: name for name, mode in MODE_OF_MYSQL.items()}
# The names of redis-py and Celery, which are accepted too.
REDIS_FILES = {"ssl_ca_certs": "sslrootcert", "ssl_certfile": "sslcert", "ssl_keyfile": "sslkey"}
REDIS_NAMES = ("ssl_cert_reqs", "ssl_check_hostname", *REDIS_FILES)
PLAIN_TEXT = "the connection is in plain text, and sslmode={mode} forbids that"
NONE = "none"


class BadEncryption(Exception):
    """The address asks for TLS in a way that cannot be followed. `options`: the query of an address that could be."""

    def __init__(self, cause: str, options: str = ""):
        super().__init__(cause)
        self.options = options


@dataclass(frozen=True)
class Encryption:
    """What an address asks for. `mode` is empty where it does not say; the files are paths, empty where it names none."""

    mode: str = ""
    authority: str = ""
    certificate: str = ""
    key: str = ""


# --- Reading an address ---


def configure_database(database: dict[str, Any], query: str, elsewhere: bool = False) -> dict[str, Any]:
    """Return Django's settings for a database on a server, with the TLS that the query of its address asks for. Raises BadEncryption.

    With `elsewhere` another program connects, from another machine, so that the files would have to be there.
    """
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if not SMELLS_OF_TLS.search(name)}
    is_mysql = database["ENGINE"].endswith("mysql")
    found = read_encryption(read_options(query), NAMES[:1] if elsewhere else NAMES, suggest)
    if found.mode.startswith("verify") and not found.authority and not elsewhere:
        raise BadEncryption(
            f"sslmode={found.mode} needs sslrootcert, a file with the certificate of the authority, or {SYSTEM}",
            f"sslmode={found.mode}&sslrootcert=/ca.pem",
        )
    if not is_mysql:
        refuse_readable_key(found.key)
    if found.mode in ENFORCED and str(database.get("HOST", "")).startswith("/"):
        raise BadEncryption(f"sslmode={found.mode} asks for encryption, which a socket of this machine does not have", "sslmode=disable")
    options |= mysql_options(found) if is_mysql else postgres_options(found)
    database |= {"OPTIONS": options, "SSLMODE": found.mode}
    return {key: value for key, value in database.items() if value or key not in ("OPTIONS", "SSLMODE")}


def read_options(query: str) -> dict[str, str]:
    """Return the options of a query that smell of TLS. Raises BadEncryption for one that is given twice."""
    pairs = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if SMELLS_OF_TLS.search(name)]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise BadEncryption(f"{twice} is given twice; keep one", suggest(dict(pairs)))
    return dict(pairs)


def read_encryption(options: Mapping[str, str], names: tuple[str, ...], suggest: Callable[[Mapping[str, str]], str]) -> Encryption:
    """Return what the options ask for, after checking them and their files. Raises BadEncryption."""
    if unknown := next((name for name in options if name not in names), ""):
        raise BadEncryption(f"option {unknown!r} is unknown; TLS is spelled {', '.join(names)}", suggest(options))
    mode = options.get("sslmode", "")
    if "sslmode" in options and mode not in MODES:
        raise BadEncryption(f"sslmode is not one of {', '.join(MODES)}", suggest(options))
    if (file := next((name for name in FILES if name in options), "")) and mode not in ENFORCED:
        # libpq would take it, and go on in plain text where the server has no TLS.
        given = f"sslmode={mode}" if mode else "no sslmode"
        raise BadEncryption(f"{file} is given with {given}, which would not keep the connection from being in plain text", suggest(options))
    if ("sslcert" in options) != ("sslkey" in options):
        raise BadEncryption("sslcert and sslkey are needed together", suggest({**options, "sslcert": "", "sslkey": ""}))
    authority = options.get("sslrootcert", "")
    if authority == SYSTEM:
        if mode != "verify-full":  # every certificate that anybody has bought would do
            raise BadEncryption(f"sslrootcert={SYSTEM} needs sslmode=verify-full", f"sslmode=verify-full&sslrootcert={SYSTEM}")
        authority = find_system_authorities()
    paths = {"sslrootcert": authority} | {name: options[name] for name in ("sslcert", "sslkey") if name in options}
    for name, path in paths.items():
        if name in options:
            check_file(name, path, suggest(options))
    return Encryption(mode, authority, options.get("sslcert", ""), options.get("sslkey", ""))


def suggest(options: Mapping[str, str]) -> str:
    """Return the query of an address that asks in our spelling for what these options seem to ask for, without their values."""
    names = "".join(options).lower()
    mode = next((value for value in options.values() if value in ENFORCED), "")
    mode = mode or next((found for value in options.values() if (found := MODE_OF_MYSQL.get(value.upper()))), "")
    has_authority = bool(re.search("ca|root", names)) or mode.startswith("verify")
    mode = mode if mode in ENFORCED else "verify-full" if has_authority else "require"
    parts = [f"sslmode={mode}"] + ["sslrootcert=/ca.pem"] * has_authority
    return "&".join(parts + ["sslcert=/client.pem", "sslkey=/client.key"] * bool(re.search("sslcert|ssl_cert(?!_reqs)|key", names)))


def check_file(name: str, path: str, example: str) -> None:
    """Raise BadEncryption if the file cannot be read. Its path is not shown: somebody may have pasted the key itself."""
    if not Path(path).is_absolute():
        raise BadEncryption(f"{name} is not an absolute path", example)
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise BadEncryption(f"cannot read the file of {name} ({cause})", example) from None


def find_system_authorities() -> str:
    """Return the file with the authorities that this machine trusts. Raises BadEncryption where there is none."""
    file = ssl.get_default_verify_paths().cafile
    if not file:
        raise BadEncryption(
            f"sslrootcert={SYSTEM}, and this machine has no file of authorities (Debian's package ca-certificates)",
            "sslmode=verify-full&sslrootcert=/ca.pem",
        )
    return file


def refuse_readable_key(path: str) -> None:
    """Raise BadEncryption for a key that libpq would refuse: readable by others, or by its group unless root owns it."""
    if not path:
        return
    found = Path(path).stat()
    forbidden = stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if found.st_uid == 0 else stat.S_IRWXG)
    if found.st_mode & forbidden:
        raise BadEncryption("others may read the file of sslkey, and PostgreSQL's driver refuses that (chmod 600)", "sslkey=/client.key")


# --- Translations ---


def postgres_options(found: Encryption) -> dict[str, str]:
    values = dict(zip(NAMES, (found.mode, found.authority, found.certificate, found.key), strict=True))
    return {name: value for name, value in values.items() if value}


def mysql_options(found: Encryption) -> dict[str, Any]:
    """Return the arguments of mysqlclient, whichever C library it was built with."""
    if not found.mode:
        return {}
    files = {"ca": found.authority, "cert": found.certificate, "key": found.key}
    ssl_files = {name: path for name, path in files.items() if path}
    # As in libpq, require checks the certificate where it has an authority.
    mode = "verify-ca" if found.mode == "require" and found.authority else found.mode
    names = CONNECTOR_C if has_connector_c() else LIBMYSQLCLIENT
    return {"ssl_mode": names[mode]} | ({"ssl": ssl_files} if ssl_files else {})


def has_connector_c() -> bool:
    """Return True if mysqlclient was built with MariaDB's library, which counts its versions from 2 and 3, MySQL's from 5."""
    from MySQLdb import get_client_info

    version = get_client_info()
    return "MariaDB" in version or int(version.partition(".")[0]) < 5


def client_arguments(settings: Mapping[str, Any], is_mariadb: bool) -> list[str]:
    """Return the arguments of MySQL's or MariaDB's client programs for the TLS of Django's `settings` of a database."""
    mode, files = settings.get("SSLMODE", ""), settings["OPTIONS"].get("ssl") or {}
    arguments = [f"--ssl-{name}={path}" for name, path in files.items()]
    if not is_mariadb:
        mode = "verify-ca" if mode == "require" and files.get("ca") else mode
        return arguments + ([f"--ssl-mode={LIBMYSQLCLIENT[mode]}"] if mode else [])
    if mode == "disable":
        return ["--skip-ssl"]
    arguments += ["--ssl"] if mode else []
    if mode == "verify-full":
        return [*arguments, "--ssl-verify-server-cert"]
    # From 11.4 on MariaDB's programs check every certificate; here it is checked where an authority is given.
    return arguments + ([] if files.get("ca") else ["--loose-skip-ssl-verify-server-cert"])


def configure_redis(url: str) -> str:
    """Return the address in the spelling that both redis-py and Celery understand.

    Without it Celery would not check the certificate of a rediss:// address, and redis-py would. Raises BadEncryption.
    """
    address = urlsplit(url)
    options = read_options(address.query)
    if address.scheme == "redis":
        if options and options != {"sslmode": "disable"}:
            raise BadEncryption("the address asks for encryption, but begins with redis:// instead of rediss://", suggest_redis(options))
        return address._replace(query="").geturl()
    return address._replace(query=urlencode(redis_options(options), safe="/")).geturl()


def redis_options(options: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the options of a rediss:// address, given either our names or those of redis-py. Raises BadEncryption."""
    if not any(name in REDIS_NAMES for name in options):
        options = {"sslmode": "verify-full"} | dict(options)
        found = read_encryption(options, NAMES, suggest_redis)
        if found.mode not in ENFORCED:
            raise BadEncryption(f"rediss:// is always encrypted; sslmode is one of {', '.join(ENFORCED)}", suggest_redis(options))
        checks_certificate, checks_host = found.mode != "require" or bool(found.authority), found.mode == "verify-full"
    else:
        checks_certificate, checks_host = read_redis_requirements(options)
        ours = {REDIS_FILES.get(name, name): value for name, value in options.items() if name not in REDIS_NAMES[:2]}
        if "sslmode" in ours:
            raise BadEncryption("sslmode is given beside ssl_cert_reqs; keep one", suggest_redis(options))
        found = read_encryption({"sslmode": "verify-full" if checks_host else "require"} | ours, NAMES, suggest_redis)
    values = {
        "ssl_cert_reqs": "required" if checks_certificate else "none",
        "ssl_check_hostname": str(checks_host).lower(),
        "ssl_ca_certs": found.authority,
        "ssl_certfile": found.certificate,
        "ssl_keyfile": found.key,
    }
    return [(name, value) for name, value in values.items() if value]


def read_redis_requirements(options: Mapping[str, str]) -> tuple[bool, bool]:
    """Return whether redis-py is to check the certificate, and the host's name in it. Raises BadEncryption."""
    requirement = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    checks_host = options.get("ssl_check_hostname", "true").lower()
    if requirement not in ("required", "optional", "none"):
        raise BadEncryption("ssl_cert_reqs is not one of required, optional, none", suggest_redis(options))
    if checks_host not in ("true", "false"):
        raise BadEncryption("ssl_check_hostname is neither true nor false", suggest_redis(options))
    # For a client optional means required.
    return requirement != "none", requirement != "none" and checks_host == "true"


def suggest_redis(options: Mapping[str, str]) -> str:
    return suggest({name: value for name, value in options.items() if name != "ssl_cert_reqs"})


# --- Looking at connections ---


@receiver(connection_created)
def refuse_plain_text(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Close a new connection and raise Misconfigured if encryption was asked for and is not there."""
    mode = connection.settings_dict.get("SSLMODE")
    if mode not in ENFORCED or is_encrypted(connection):
        return
    connection.close()
    raise plain_text_error(connection.alias, mode)


def plain_text_error(alias: str, mode: str) -> Exception:
    # Imported only here, because the settings, which the diagnosis needs, are read with this module.
    from techmarket.diagnosis import database_message
    from techmarket.errors import Misconfigured

    return Misconfigured(database_message("database.no_encryption", alias, PLAIN_TEXT.format(mode=mode)))


def is_encrypted(connection: BaseDatabaseWrapper) -> bool:
    """Return True if an open connection to a server is encrypted on its way from here."""
    if connection.vendor == "postgresql":
        return bool(connection.connection.pgconn.ssl_in_use)
    return bool(read_mysql_status(connection.connection, "Ssl_cipher"))


def describe_encryption(connection: BaseDatabaseWrapper) -> str:
    """Return the version of TLS of an open connection, "none" where it is in plain text, or "" for a file."""
    if connection.vendor == "sqlite":
        return ""
    if not is_encrypted(connection):
        return NONE
    if connection.vendor == "mysql":
        return read_mysql_status(connection.connection, "Ssl_version")
    with connection.cursor() as cursor:
        cursor.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        row = cursor.fetchone()
    return str(row[0]) if row and row[0] else "TLS"  # behind a pooler the server's own connection may be in plain text


def read_mysql_status(connection: Any, name: str) -> str:
    """Return a session's status, whatever converters the connection of mysqlclient has."""
    cursor = connection.cursor()
    cursor.execute(f"SHOW STATUS LIKE '{name}'")
    rows = cursor.fetchall()
    cursor.close()
    value = rows[0][1] if rows else ""
    return value.decode() if isinstance(value, bytes) else str(value)


def connect_mysql(database: BaseDatabaseWrapper, **parameters: Any) -> Any:
    """Return a new connection of mysqlclient beside that of Django, encrypted where that one would be."""
    import MySQLdb

    from techmarket.logins import connect  # as above

    connection = connect(database, lambda given: MySQLdb.connect(**given), database.get_connection_params() | parameters)
    mode = database.settings_dict.get("SSLMODE", "")
    if mode in ENFORCED and not read_mysql_status(connection, "Ssl_cipher"):
        connection.close()
        raise plain_text_error(database.alias, mode)
    return connection


def describe_socket(connection: Any) -> str:
    """Return the version of TLS of an open connection of redis-py, or "none"."""
    sock = connection._sock
    return sock.version() or "TLS" if isinstance(sock, ssl.SSLSocket) else NONE


def find_tls_cause(error: BaseException | None) -> str:
    """Return what TLS has failed of behind an error, or ""."""
    while error:
        if isinstance(error, ssl.SSLError):
            return (error.reason or str(error)).replace("_", " ").lower()
        if isinstance(error, TimeoutError) and "handshake" in str(error):  # a Redis without TLS waits for the rest of a command
            return "the server does not answer the handshake, as one without TLS on this port"
        error = error.__cause__ or error.__context__
    return ""
