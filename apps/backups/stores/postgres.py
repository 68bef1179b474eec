"""PostgreSQL: pg_dump and pg_restore, both in one transaction."""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg

from apps.backups import clients
from apps.backups.measure import Measures, measure
from apps.backups.stores.base import Store, Told
from techmarket.errors import Misconfigured

# As the programs read it; a password on a command line could be read by everybody on the machine.
VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
}
LONGEST_NAME = 63
LOCK_TIMEOUT = "10s"
# The pg_restore from which on `SET transaction_timeout` comes first, which no older server knows.
SETS_TIMEOUT = 17


class PostgreSQL(Store):
    suffix = "pgdump"
    vendor = "postgresql"

    def ready(self) -> str:
        return self.client("pg_dump").version

    def client(self, name: str) -> clients.Client:
        """Of the server's own version where it is here."""
        with self.session() as connection:
            major = int(connection.get_database_version()[0])
        package = f"postgresql-client-{major} (or postgresql-client)"
        client = clients.find(self.place, package, f"/usr/lib/postgresql/{major}/bin/{name}", name)
        if wrong := misfit(major, client.version):
            raise Misconfigured(f"{self.place} is PostgreSQL {major}, and {name} here is {wrong}. Install Debian's package {package}.")
        return client

    def environment(self) -> Mapping[str, str]:
        connection = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
        found = {name: str(self.settings[key]) for name, key in connection.items() if self.settings.get(key)}
        options = self.settings["OPTIONS"]
        found |= {variable: str(options[name]) for name, variable in VARIABLES.items() if options.get(name)}
        return found | {"PGCONNECT_TIMEOUT": str(options.get("connect_timeout", 5)), "PGAPPNAME": "techmarket-backup"}

    def dump(self, file: Path, told: Told) -> Measures:
        client = self.client("pg_dump")
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot()")
            snapshot = cursor.fetchone()[0]
            arguments = [
                "--no-password",
                "--format=custom",
                "--compress=3",
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={LOCK_TIMEOUT}",
            ]
            with clients.started(self.place, client, arguments, self.environment()) as process, file.open("xb") as out:
                for chunk in clients.chunks(self.place, process):
                    out.write(chunk)
                    told(len(chunk))
            return measure(connection)

    def load(self, file: Path, told: Told) -> None:
        flags = ["--no-password", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        arguments = [*flags, f"--dbname={self.settings['NAME']}", str(file)]
        with clients.started(self.place, self.client("pg_restore"), arguments, self.environment()):
            pass
        told(file.stat().st_size)

    def grant(self, file: Path) -> list[str]:
        """Statement by statement: one role that is not here must not cost another its rights."""
        missing = []
        with self.session() as connection, connection.cursor() as cursor:
            for statement in self.rights(file):
                try:
                    cursor.execute(statement)
                except Exception as error:
                    if not isinstance(error.__cause__, psycopg.errors.UndefinedObject | psycopg.errors.InsufficientPrivilege):
                        raise
                    missing.append(statement.removesuffix(";").split()[-1].strip('"'))
        return sorted(set(missing))

    def rights(self, file: Path) -> list[str]:
        client = self.client("pg_restore")
        with clients.started(self.place, client, ["--schema-only", "--no-owner", "--file=-", str(file)], {}) as process:
            script = b"".join(clients.chunks(self.place, process)).decode()
        return [line for line in script.splitlines() if line.startswith(("GRANT ", "REVOKE ")) and line.endswith(";")]

    def clear(self) -> None:
        tables = ", ".join(f'"{table}"' for table in self.tables())
        if tables:
            self.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'", f"DROP TABLE {tables} CASCADE")

    @contextmanager
    def another(self) -> Iterator[Self]:
        name = f"{self.settings['NAME'][: LONGEST_NAME - 16]}_verify_{secrets.token_hex(4)}"
        create, drop = f'CREATE DATABASE "{name}" TEMPLATE template0', f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
        with self.throwaway(create, drop, f"ALTER ROLE {self.settings.get('USER')} CREATEDB"):
            yield type(self)(self.alias, name)


def misfit(server: int, version: str) -> str:
    """What is wrong with a program of this version, as it says it, for a server of this major one; empty where nothing is.

    An older one refuses to dump. What a newer one dumps may not come back: better to hear of that at the backup.
    """
    found = re.search(r"\b[0-9]+", version)
    program = int(found[0]) if found else 0
    if program < server:
        return "older"
    return "too new to restore there" if program >= SETS_TIMEOUT > server else ""
