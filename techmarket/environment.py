"""Reads settings from environment variables. An invalid one is refused with its name and an example, never with a secret's value."""

import gc
import hmac
import os
import re
import sys
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import django
import environ
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from techmarket import encryption
from techmarket.batch_address import BatchAddress, parse_batch_address
from techmarket.env_file import UNREPLACED, read_text_file
from techmarket.installation import stop_if_incomplete
from techmarket.options import SOCKET, decode, find_refused_variable, parse_options

FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
ENGINES = {
    "mysql": "techmarket.backends.mysql",
    "sqlite": "django.db.backends.sqlite3",
    "postgres": "techmarket.backends.postgresql",
}
HOST = re.compile(r"\*|\.?[a-z0-9-]+(\.[a-z0-9-]+)*|\[[a-f0-9:.]+\]", re.IGNORECASE)
HASH_DIGITS = 12  # of the hash of a setting, which tells only whether it is another one
SHOWN = 60  # characters of a value in a message
NOTHING_REPLACED = "it has $( or ${, which nothing has replaced"
UNPRINTABLE = "the address has an invisible character; write it percent-encoded"
ADDRESS_UNREPLACED = "the address has $( or ${, which nothing has replaced; in a password write $ as %24"
DRIVERS = ("MySQLdb", "psycopg")  # mysqlclient is compiled: the library that it was linked with may be gone
DEFAULT_PORTS = {ENGINES["mysql"]: 3306, ENGINES["postgres"]: 5432}
SOCKETS = {"mysql": "/run/mysqld/mysqld.sock", "postgres": "/run/postgresql"}  # for examples
USUAL_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # nosec B108 # noqa: S108  only looked for
SCHEMES = {"mysql": "mysql", "sqlite": "sqlite", "postgres": "postgres", "postgresql": "postgres"}
# The passwords in docker-compose.yml and in k8s/overlays/dev, which are public.
SEED_PASSWORDS = {
    "auth_pass",
    "catalog_pass",
    "orders_pass",
    "payments_pass",
    "dwh_pass",
    "control_pass",
    "web_pass",
    "worker_pass",
    "rootpass",
    "etl_pass",
    "bi_pass",
    "redis_pass",
    "redis_web_pass",
    "redis_worker_pass",
    "redis_beat_pass",
    "redis_flower_pass",
    "metabase_pass1",  # Metabase requires a digit
    "grafana_pass",
    "flower_pass",
}
DEVELOPMENT_TOKEN = "development-only-token"  # nosec B105 # noqa: S105  public, and refused in production
DEVELOPMENT_PASSWORD = "with DEBUG=false the development password is refused"  # nosec B105 # noqa: S105  a text
BAD_SETTINGS_EXIT_CODE = 4  # of commands and servers alike


def load_settings_or_exit() -> None:
    """Load the settings now, and where one is invalid, print one line and end the process, whichever program it is."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "techmarket.settings")
    with exit_on_invalid_settings():
        settings.INSTALLED_APPS  # noqa: B018
        for driver in DRIVERS:
            import_module(driver)


@contextmanager
def exit_on_invalid_settings() -> Iterator[None]:
    """Print one line and end the process where a setting that is read inside is invalid, or where a package is missing."""
    try:
        yield
    except ImproperlyConfigured as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_SETTINGS_EXIT_CODE)
    except ImportError as error:
        stop_if_incomplete(error)
        raise


def set_up_django() -> None:
    """Set up Django for a command or a worker.

    The garbage collector skips what is imported here and stays: a run without changes took 0.74 s instead of 0.94 s.
    """
    gc.disable()
    load_settings_or_exit()
    django.setup()
    gc.freeze()
    gc.enable()


class Environment:
    """The environment variables of one process. Each is given as NAME or as NAME_FILE, a file with the value, but not as both."""

    def __init__(self, values: Mapping[str, str]):
        self.values = values
        self.names: set[str] = set()  # of those that have been read
        self.given: dict[str, str] = {}  # of those, the ones that are set

    def text(self, name: str, default: str, example: str) -> str:
        self.names.add(name)
        path = self.values.get(f"{name}_FILE")
        if path is None:
            value = self.values.get(name, default).strip()
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise invalid(name, "the value is not UTF-8", example)
            if name in self.values:
                self.given[name] = value
            return value
        if name in self.values:
            raise invalid(name, f"both {name} and {name}_FILE are set; keep one", example)
        try:
            value = read_text_file(Path(path)).strip()
        except ValueError as error:
            # Without the path: somebody may have set NAME_FILE to the secret itself.
            raise invalid(f"{name}_FILE", f"cannot read that file: {error}", f"/run/secrets/{name.lower()}") from None
        if not value:
            raise invalid(f"{name}_FILE", "that file is empty", f"/run/secrets/{name.lower()}")
        if "\n" in value or "\r" in value:
            raise invalid(f"{name}_FILE", "that file has several lines; it must hold the value alone", f"/run/secrets/{name.lower()}")
        self.given[name] = value
        return value

    def hash_given(self, key: str) -> dict[str, str]:
        """Return a hash of each variable that is set, keyed, since a short value could be guessed from a plain one."""
        return {name: keyed_hash(key, f"{name}={value}") for name, value in sorted(self.given.items())}

    def folder(self, name: str, default: Path, example: str) -> Path:
        value = self.text(name, str(default), example)
        if not Path(value).is_absolute():
            raise invalid(name, f"{show(value)} is not an absolute path", example)
        return Path(value)

    def file(self, name: str, default: str, example: str) -> Path | None:
        """Return the absolute path of a file that need not exist yet, or None where the value is empty, as `default` is."""
        value = self.text(name, default, example)
        if value and not Path(value).is_absolute():
            raise invalid(name, f"{show(value)} is not an absolute path", example)
        return Path(value) if value else None

    def recipients(self, name: str, default: str, example: str) -> list[str]:
        """Return public keys of age. Never shown: somebody may have given the private key instead."""
        recipients = self.words(name, default, example)
        for number, recipient in enumerate(recipients, 1):
            if recipient.startswith("AGE-SECRET-KEY-"):
                raise invalid(name, "that is a private key, which must not be on this machine; give the public key beside it", example)
            if not is_recipient(recipient):
                raise invalid(name, f"key {number} is no public key of age, or is misspelled; commas separate keys", example)
        return recipients

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default), "false")
        if value.lower() not in FLAGS:
            raise invalid(name, f"{show(value)} is neither true nor false", "false")
        return FLAGS[value.lower()]

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default), str(default))
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise invalid(name, f"{show(value)} is not a whole number from {low} to {high}", str(default))
        return int(value)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default, default)
        if value not in choices:
            raise invalid(name, f"{show(value)} is not one of {', '.join(choices)}", default)
        return value

    def words(self, name: str, default: str, example: str) -> list[str]:
        return [word.strip() for word in self.text(name, default, example).split(",") if word.strip()]

    def hosts(self, name: str, default: str, example: str) -> list[str]:
        """Return names of hosts as Django compares them with the Host header. Another spelling would match no request."""
        hosts = self.words(name, default, example)
        for host in hosts:
            if not HOST.fullmatch(host):
                raise invalid(
                    name, f"{show(host)} is not the name of a host, without scheme, port and path; commas separate names", example
                )
        return hosts

    def networks(self, name: str, default: str, example: str) -> list[IPv4Network | IPv6Network]:
        """Return the networks; an address is a network of one, and all addresses are none."""
        found = []
        for text in self.words(name, default, example):
            try:
                network = ip_network(text, strict=False)
            except ValueError:
                raise invalid(name, f"{show(text)} is neither an address nor a network; commas separate them", example) from None
            if network.prefixlen == 0:
                raise invalid(name, f"{show(text)} is every address there is; name your proxies' own", example)
            found.append(network)
        return found

    def origins(self, name: str, default: str, example: str) -> list[str]:
        origins = self.words(name, default, example)
        for origin in origins:
            if not is_web_address(origin) or re.search("[/?#@]", origin.partition("://")[2]):
                raise invalid(name, f"{show(origin)} is not https:// and a host, without a path", example)
        return origins

    def web_address(self, name: str, default: str, example: str) -> str:
        """Return an http:// or https:// address, or "" where it is empty, as `default` is. Never shown: a webhook's path is a secret."""
        value = self.text(name, default, example)
        if (value or default) and not is_web_address(value):
            raise invalid(name, "the address is not https:// and a host, or its port is not a number from 1 to 65535", example)
        return value

    def issuer(self, name: str, default: str, example: str, is_development: bool) -> str:
        """Return the address of an OpenID provider, spelled as its tokens spell it; over http:// only in development."""
        value = self.web_address(name, default, example)
        address = urlsplit(value)
        if address.query or address.fragment or "@" in address.netloc:
            raise invalid(name, "the address of a provider has no user, no ? and no #", example)
        if value and address.scheme != "https" and not is_development:
            raise invalid(name, "with DEBUG=false a provider is reached by https:// alone", example)
        return value

    def zone(self, name: str, default: str) -> str:
        value = self.text(name, default, default)
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise invalid(name, f"{show(value)} is not a time zone", default) from None
        return value

    def broker(self, name: str, default: str) -> str:
        """Return the address of Redis, or `default`, which passes messages as files in VAR_DIR."""
        example = "redis://:password@127.0.0.1:6379/0"
        url = self.text(name, default, example)
        if url == default:
            return url
        refuse_unprintable(name, url, example)
        if UNREPLACED.search(url):
            raise invalid(name, ADDRESS_UNREPLACED, example)
        try:
            address = urlsplit(url)
            wrong = address.scheme not in ("redis", "rediss") or not address.hostname or address.port == 0
            # Celery stops at another path, and redis-py takes database 0.
            wrong = wrong or bool(address.fragment) or not re.fullmatch(r"(/[0-9]{0,5})?", address.path)
        except ValueError:
            wrong = True
        if wrong:
            raise invalid(name, "the address is not redis://:password@host:port/number, or the password is not percent-encoded", example)
        try:
            parse_options(address.query, "redis")
        except ValueError as error:
            raise invalid(name, str(error), example) from None
        try:
            decode(f"{address.username}{address.password}")
        except ValueError as error:
            raise invalid(name, f"the user or the password {error}", example) from None
        try:
            return encryption.configure_redis(url)
        except encryption.BadEncryption as error:
            raise invalid(name, str(error), f"{example.replace('redis', 'rediss')}?{error.options}") from None

    def batch_store(self, name: str, default: str, aws: Mapping[str, str]) -> BatchAddress | None:
        """Return where batches are stored, with the keys of `aws`; None for the control database, where it is empty."""
        example = "s3://bucket/prefix"
        url = self.text(name, default, example)
        if not url:
            return None
        refuse_unprintable(name, url, example)
        if UNREPLACED.search(url):
            raise invalid(name, "the address has $( or ${, which nothing has replaced", example)
        try:
            return parse_batch_address(url, aws)
        except ValueError as error:
            raise invalid(name, str(error), "file:///var/lib/techmarket/batches" if url.startswith("file:") else example) from None

    def database(self, name: str, embedded: Path, servers: str, elsewhere: bool = False) -> dict[str, Any]:
        """Return Django's settings for the database whose URL is in `name`, or for the SQLite file `embedded` without a URL.

        `servers` is the one kind of server allowed besides SQLite: "mysql" or "postgres". `elsewhere`: another machine connects to it.
        """
        example = f"{servers}://user:password@127.0.0.1:{3306 if servers == 'mysql' else 5432}/name"
        url = self.text(name, "", example)
        if not url:
            return {"ENGINE": ENGINES["sqlite"], "NAME": str(embedded)}
        refuse_unprintable(name, url, example)
        if UNREPLACED.search(url):
            raise invalid(name, ADDRESS_UNREPLACED, example)
        kind = SCHEMES.get(url.partition("://")[0].lower())
        if kind not in (servers, "sqlite"):
            raise invalid(name, f"the address must begin with {servers}:// or sqlite:///", example)
        try:
            address = urlsplit(url)
            port = address.port
        except ValueError:
            raise invalid(name, "the port is not a number from 1 to 65535, or the password is not percent-encoded", example) from None
        if port == 0:
            raise invalid(name, "the port is not a number from 1 to 65535", example)
        if kind == "sqlite":
            return {"ENGINE": ENGINES[kind]} | self.sqlite_file(name, address, f"sqlite://{quote(str(embedded))}")
        if address.fragment or "@" in address.path + address.query or "/" in address.path[1:]:
            # Else the rest of a password after its / ? or # would be read as the database's name, and shown in messages.
            raise invalid(name, "the password is not percent-encoded, or the database's name has a /, @ or #", example)
        database = self.server(name, kind, address, example) | {"ENGINE": ENGINES[kind]}
        try:
            return encryption.configure_database(database, address.query, elsewhere)
        except encryption.BadEncryption as error:
            raise invalid(name, str(error), f"{example}?{error.options}") from None

    def replica(self, name: str, source_name: str, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return Django's settings for the replica of a source; nothing without a URL."""
        example = "mysql://user:password@replica.example.com:3306/name"
        if not self.text(name, "", example):
            return {}
        if source["ENGINE"] != ENGINES["mysql"]:
            raise invalid(name, f"a SQLite file has no replica; name the server that this one copies in {source_name}", example)
        replica = self.database(name, Path(), "mysql")
        if replica["ENGINE"] != ENGINES["mysql"]:
            raise invalid(name, "the address must begin with mysql://", example)
        return replica

    def sqlite_file(self, name: str, address: SplitResult, example: str) -> dict[str, Any]:
        if address.netloc or not address.path.strip("/"):
            raise invalid(name, "the address of a SQLite file has three slashes and then its path", example)
        if address.fragment:
            raise invalid(name, "a # in a path is written as %23", example)
        try:
            path, options = decode(address.path[1:]), parse_options(address.query, "sqlite")
        except ValueError as error:
            raise invalid(name, f"the path or an option is wrong: {error}", example) from None
        if not Path(path).is_absolute():  # else each program would open a file in its own folder
            raise invalid(name, "the path of a SQLite file is not absolute; four slashes begin one that is", example)
        return {"NAME": path, "OPTIONS": options}

    def server(self, name: str, kind: str, address: SplitResult, example: str) -> dict[str, Any]:
        """Return the settings for a server, reached at a host or at a socket of this machine."""
        over_socket = f"{kind}://user:password@/name?socket={SOCKETS[kind]}"
        try:
            options = parse_options(address.query, kind)
        except ValueError as error:
            raise invalid(name, str(error), over_socket if SOCKET in str(error) else example) from None
        try:
            database: dict[str, Any] = dict(environ.Env.db_url_config(address._replace(scheme=kind, query="").geturl()))
            database |= {key.upper(): decode(getattr(address, key) or "") for key in ("username", "password")}
            database |= {"USER": database.pop("USERNAME"), "NAME": decode(address.path[1:]), "OPTIONS": options}
        except ValueError as error:
            raise invalid(name, f"the user, the password or the name {error}", example) from None
        socket = options.pop("socket", "")
        if "/" in unquote(database["HOST"]) or (socket and database["HOST"]):
            raise invalid(name, "a socket is given by ?socket= alone, without a host", over_socket)
        database["HOST"] = socket or database["HOST"]
        if not database["NAME"] or not database["HOST"]:
            raise invalid(name, "the address names no host or no database", example)
        if kind == "postgres" and len(database["NAME"].encode()) > 63:  # it would be cut, and may be another database's then
            raise invalid(name, "the database's name has more than 63 bytes", example)
        if kind == "mysql" and len(database["NAME"]) > 64:
            raise invalid(name, "the database's name has more than 64 characters", example)
        if kind == "mysql" and database["HOST"] == "localhost" and database["PORT"]:
            database["HOST"] = "127.0.0.1"  # for localhost the driver takes the default socket, and drops the port
        return database


def is_recipient(text: str) -> bool:
    """Return True if the text is a public key of age, by its checksum."""
    import pyrage  # here, since only few processes have such a key to check

    try:
        pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        return False
    return True


def show(value: str) -> str:
    """Return a value as a message shows it: shortened, and without what may be a password, since a line may stand under another's name."""
    hidden = f"***{value[value.rindex('@') :]}" if "@" in value else value
    return repr(hidden if len(hidden) <= SHOWN else f"{hidden[:SHOWN]}...")


def is_web_address(url: str) -> bool:
    """Return True for http:// or https:// with a host, and with a port that there is, or none."""
    try:
        address = urlsplit(url)
        return bool(re.fullmatch(r"https?://\S+", url) and url.isprintable() and address.hostname and address.port != 0)
    except ValueError:
        return False


def refuse_unprintable(name: str, url: str, example: str) -> None:
    """Raise ImproperlyConfigured for an address with what no message can show. The line end of a file that became a part is dropped."""
    if not re.sub(r"[\t\r\n]", "", url).isprintable():
        raise invalid(name, UNPRINTABLE, example)


def keyed_hash(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), sha256).hexdigest()[:HASH_DIGITS]


def invalid(name: str, cause: str, example: str) -> ImproperlyConfigured:
    """Return the error for a variable that cannot be used."""
    return ImproperlyConfigured(f"{name}: {cause}. Example: {name}={example}")


def refuse_shared_databases(databases: Mapping[str, Mapping[str, Any]], variables: Mapping[str, str]) -> None:
    """Raise ImproperlyConfigured if two aliases have one database: it would mix a source with the warehouse, or two services."""
    for first, second in combinations(databases, 2):
        if is_same_database(databases[first], databases[second]):
            cause = f"the same database as {variables[first]}; each needs its own"
            raise invalid(variables[second], cause, "another name or server")


def refuse_driver_variables(environ: Mapping[str, str], databases: Iterable[Mapping[str, Any]]) -> None:
    """Raise ImproperlyConfigured for a variable by which a driver would connect elsewhere, or change what a run rests on."""
    configs = list(databases)
    for kind in ("mysql", "postgres"):
        on_servers = [config for config in configs if config["ENGINE"] == ENGINES[kind]]
        name, reason = find_refused_variable(environ, kind, on_servers) if on_servers else ("", "")
        if name:
            raise ImproperlyConfigured(f"{name}: the database's driver would read this variable: {reason}. Remove it from the environment.")


def is_same_database(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return True for two spellings of one database.

    Those are localhost or 127.0.0.1, default port or none, a file by two paths, and a socket for the port of this machine.
    """
    if one["ENGINE"] != other["ENGINE"]:
        return False
    if one["ENGINE"] == ENGINES["sqlite"]:
        return file_identity(one["NAME"]) == file_identity(other["NAME"])
    return one["NAME"] == other["NAME"] and not server_addresses(one).isdisjoint(server_addresses(other))


def file_identity(name: str) -> tuple[Any, ...]:
    try:
        found = Path(name).stat()
        return found.st_dev, found.st_ino
    except OSError:
        return (str(Path(name).resolve()),)


def server_addresses(database: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the addresses by which a server may be known: host and port, or socket.

    PostgreSQL's socket has its port in its name. MySQL's has none: only one in a usual place is taken for that of the default port.
    """
    host, port = str(database["HOST"]), str(database.get("PORT") or DEFAULT_PORTS[database["ENGINE"]])
    if not host.startswith("/"):
        host = host.lower().rstrip(".")
        return {("local" if host in ("localhost", "::1") or host.startswith("127.") else host, port)}
    if database["ENGINE"] == ENGINES["postgres"]:
        return {("local", port)}
    path = str(Path(host).resolve())
    usual = {str(Path(each).resolve()) for each in USUAL_SOCKETS}
    return {(path, "")} | ({("local", port)} if path in usual else set())


def refuse_insecure_settings(
    secret_key: str, hosts: list[str], databases: Mapping[str, Mapping[str, Any]], variables: Mapping[str, str]
) -> None:
    """Raise ImproperlyConfigured for a value that only development may have. Called where DEBUG is false."""
    refuse_weak_key("SECRET_KEY", secret_key)
    if not hosts or "*" in hosts:
        raise invalid("ALLOWED_HOSTS", "with DEBUG=false it must name the hosts, and * is not a name", "etl.example.com")
    for alias, database in databases.items():
        if database.get("PASSWORD") in SEED_PASSWORDS:
            raise invalid(variables[alias], DEVELOPMENT_PASSWORD, "a password of your own")


def refuse_incomplete_provider(url: str, client_id: str, secret: str, groups: Mapping[str, list[str]], has_local_login: bool) -> None:
    """Raise ImproperlyConfigured for settings with which nobody could log in."""
    if not url and not has_local_login:
        raise invalid("LOCAL_LOGIN", "without OIDC_URL nobody could log in", "true")
    if url and not client_id:
        raise invalid("OIDC_CLIENT_ID", "with OIDC_URL it is needed", "techmarket")
    if url and not secret:
        raise invalid("OIDC_CLIENT_SECRET", "with OIDC_URL it is needed", "the secret that the provider shows for this client")
    if url and not any(groups.values()):
        cause = "with OIDC_URL one of OIDC_VIEWERS, OIDC_OPERATORS and OIDC_ADMINISTRATORS is needed: nobody could log in"
        raise invalid("OIDC_VIEWERS", cause, "shop-analysts")


def refuse_weak_key(name: str, key: str) -> None:
    """Raise ImproperlyConfigured for a key that could be guessed. Called where DEBUG is false."""
    if UNREPLACED.match(key):
        raise invalid(name, NOTHING_REPLACED, "a secret of 50 characters or more")
    if len(key) < 50 or key.startswith("django-insecure-") or len(set(key)) < 5:
        raise invalid(name, "with DEBUG=false it must be a secret of 50 characters or more", "$(openssl rand -base64 48)")


def refuse_seed_broker(url: str) -> None:
    """Raise ImproperlyConfigured for a broker with a public password. Called where DEBUG is false."""
    if unquote(urlsplit(url).password or "") in SEED_PASSWORDS:
        raise invalid("CELERY_BROKER_URL", DEVELOPMENT_PASSWORD, "redis://:password@127.0.0.1:6379/0")


def refuse_weak_token(token: str) -> None:
    """Raise ImproperlyConfigured for a short token, or the public one of development. Called where DEBUG is false."""
    if UNREPLACED.match(token):
        raise invalid("METRICS_TOKEN", NOTHING_REPLACED, "a secret of 16 characters or more")
    if len(token) < 16 or token == DEVELOPMENT_TOKEN:
        cause = "with DEBUG=false it must be a secret of 16 characters or more"
        raise invalid("METRICS_TOKEN", cause, "$(openssl rand -hex 24)")
