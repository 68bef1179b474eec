"""PostgreSQL: pg_dump and pg_restore, both in one transaction."""

import re
from collections.abc import Mapping
from pathlib import Path

import psycopg

from apps.backups import clients
from apps.backups.measure import Measures, measure_tables
from apps.backups.stores.base import ByteCounter, ServerStore
from techmarket.errors import Misconfigured

# Options of the connection as variables of the client programs: everybody on the machine can read a command line.
VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "passfile": "PGPASSFILE",
}
LOCK_TIMEOUT = "10s"
# pg_restore of this version and later sends `SET transaction_timeout`, which older servers refuse.
TRANSACTION_TIMEOUT_VERSION = 17


class PostgreSQL(ServerStore):
    suffix = "pgdump"
    vendor = "postgresql"
    max_name_length = 63
    limit_lock_wait = f"SET lock_timeout = '{LOCK_TIMEOUT}'"
    create_options = "TEMPLATE template0"
    drop_options = "WITH (FORCE)"

    def throwaway_grant(self) -> str:
        return f"ALTER ROLE {self.settings.get('USER')} CREATEDB"

    def find_dump_program(self) -> str:
        return self.find_client("pg_dump").version

    def find_client(self, name: str) -> clients.Client:
        """Return the program of the server's own major version, or the one on the PATH. Raises Misconfigured."""
        with self.session() as connection:
            major = int(connection.get_database_version()[0])
        package = f"postgresql-client-{major} (or postgresql-client)"
        client = clients.find_client(self.place, package, f"/usr/lib/postgresql/{major}/bin/{name}", name)
        if mismatch := find_version_mismatch(major, client.version):
            raise Misconfigured(f"{self.place} is PostgreSQL {major}, but {name} here is {mismatch}. Install Debian's package {package}.")
        return client

    def client_environment(self) -> Mapping[str, str]:
        settings_by_variable = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
        environment = {name: str(self.settings[key]) for name, key in settings_by_variable.items() if self.settings.get(key)}
        options = self.settings["OPTIONS"]
        environment |= {variable: str(options[name]) for name, variable in VARIABLES.items() if options.get(name)}
        return environment | {"PGCONNECT_TIMEOUT": str(options.get("connect_timeout", 5)), "PGAPPNAME": "techmarket-backup"}

    def dump(self, file: Path, progress: ByteCounter) -> Measures:
        client = self.find_client("pg_dump")
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
            with clients.run_client(self.place, client, arguments, self.client_environment()) as process, file.open("xb") as out:
                for chunk in clients.read_chunks(self.place, process):
                    out.write(chunk)
                    progress(len(chunk))
            return measure_tables(connection)

    def load(self, file: Path, progress: ByteCounter) -> None:
        flags = ["--no-password", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        arguments = [*flags, f"--dbname={self.settings['NAME']}", str(file)]
        with clients.run_client(self.place, self.find_client("pg_restore"), arguments, self.client_environment()):
            pass
        progress(file.stat().st_size)

    def restore_grants(self, file: Path) -> list[str]:
        """Run the grants one by one, so that a role that does not exist leaves the others their rights; return the missing roles."""
        missing = []
        with self.session() as connection, connection.cursor() as cursor:
            for statement in self.read_grants(file):
                try:
                    cursor.execute(statement)
                except Exception as error:
                    if not isinstance(error.__cause__, psycopg.errors.UndefinedObject | psycopg.errors.InsufficientPrivilege):
                        raise
                    missing.append(statement.removesuffix(";").split()[-1].strip('"'))
        return sorted(set(missing))

    def read_grants(self, file: Path) -> list[str]:
        """Return the GRANT and REVOKE statements of a dump."""
        client = self.find_client("pg_restore")
        with clients.run_client(self.place, client, ["--schema-only", "--no-owner", "--file=-", str(file)], {}) as process:
            script = b"".join(clients.read_chunks(self.place, process)).decode()
        return [line for line in script.splitlines() if line.startswith(("GRANT ", "REVOKE ")) and line.endswith(";")]


def find_version_mismatch(server: int, version: str) -> str:
    """Return why a program that prints this version does not fit a server of this major version, or "".

    An older program refuses to dump. A dump by a newer one may not restore, which must be noticed when the backup is made.
    """
    match = re.search(r"\b[0-9]+", version)
    program = int(match[0]) if match else 0
    if program < server:
        return "older"
    return "too new to restore there" if program >= TRANSACTION_TIMEOUT_VERSION > server else ""
