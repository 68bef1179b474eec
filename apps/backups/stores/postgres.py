"""PostgreSQL: pg_dump and pg_restore, both in one transaction."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import psycopg
from django.conf import settings
from psycopg.conninfo import make_conninfo

from apps.backups import clients
from apps.backups.catalog import Table, quote_name
from apps.backups.dump_file import DumpFile
from apps.backups.measure import Measures, measure_tables
from apps.backups.stores.base import NAMES_SHOWN, ByteCounter, ServerStore, join_names
from techmarket.errors import AccessDenied, Misconfigured, Terminal

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


# A line of pg_restore's list: its numbers, and what it is with schema, name and owner.
ENTRY = re.compile(r"(\d+; \d+ \d+) (.+)")
EXTENSION, EXTENSION_COMMENT = re.compile(r"EXTENSION - (.+?) ?$"), re.compile(r"COMMENT - EXTENSION ")
SUPERUSER_ENTRY = re.compile(r"(EVENT TRIGGER|PUBLICATION|SUBSCRIPTION|FOREIGN DATA WRAPPER) - ")
WORD = re.compile(r"[a-z_][a-z0-9_]*")
GRANT_ENTRY = re.compile(r"(DEFAULT )?ACL ")
GRANTING = ("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ")
ROLE = re.compile(r' (?:TO|FROM) ("(?:[^"]|"")+"|\S+?)(?: WITH GRANT OPTION)?;$')
SUBSCRIPTION_ENTRY = re.compile(r"(COMMENT - |SECURITY LABEL - )?SUBSCRIPTION ")
CREATABLE_EXTENSIONS = "SELECT name FROM pg_available_extension_versions WHERE trusted OR NOT superuser"
OWN_SCHEMA = "nspname <> 'information_schema' AND nspname !~ '^pg_'"
HAS_OBJECTS = (
    f"SELECT EXISTS (SELECT FROM pg_namespace WHERE {OWN_SCHEMA} AND nspname <> 'public')"  # noqa: S608  conditions of ours alone
    f" OR EXISTS (SELECT FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE {OWN_SCHEMA})"
    f" OR EXISTS (SELECT FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE {OWN_SCHEMA})"
    f" OR EXISTS (SELECT FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace WHERE {OWN_SCHEMA})"
)
# Tables that the user may not read, with what it lacks: pg_dump then makes no dump at all.
UNREADABLE = (
    "SELECT format('%I', nspname), format('%I.%I', nspname, relname) FROM pg_class c"  # noqa: S608
    f" JOIN pg_namespace n ON n.oid = relnamespace WHERE {OWN_SCHEMA} AND relkind IN ('r', 'p', 'S')"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"
    " AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')"
    " ELSE has_table_privilege(c.oid, 'SELECT') END) ORDER BY 2"
)
# Tables with a policy for the user: pg_dump refuses to dump only some rows.
ROW_SECURITY = (
    "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"  # noqa: S608
    f" WHERE {OWN_SCHEMA} AND relkind IN ('r', 'p') AND row_security_active(c.oid) ORDER BY 1"
)
PARTITIONED = (
    "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"  # noqa: S608
    f" WHERE {OWN_SCHEMA} AND relkind = 'p' AND NOT relispartition"
)
PREPARING_SCHEMAS = (
    "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = 'etl_prepared' AND relkind = 'r'"
)
# Never a partition of the fact, whatever the row says.
PREPARED = (
    "SELECT relation FROM {table} JOIN pg_class c ON relname = relation JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE nspname = %s AND NOT relispartition"
)


class PostgreSQL(ServerStore):
    suffix = "pgdump"
    vendor = "postgresql"
    max_name_length = 63
    limit_lock_wait = f"SET lock_timeout = '{LOCK_TIMEOUT}'"
    create_options = "TEMPLATE template0"
    drop_options = "WITH (FORCE)"

    def throwaway_grant(self) -> str:
        return f"ALTER ROLE {self.quote_user()} CREATEDB"

    def quote_user(self) -> str:
        """Return the user as a statement spells it."""
        return quote_word(str(self.settings.get("USER")))

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

    def dump(self, out: IO[bytes], progress: ByteCounter) -> Measures:
        client = self.find_client("pg_dump")
        with self.session() as connection, connection.cursor() as cursor:
            self.refuse_unreadable(cursor)
            cursor.execute(PARTITIONED)
            partitioned = [row[0] for row in cursor.fetchall()]
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if partitioned:  # until they are measured: new partitions have rows that this transaction's snapshot would not hide
                cursor.execute(f"LOCK TABLE {', '.join(partitioned)} IN ACCESS SHARE MODE")
            cursor.execute("SELECT pg_export_snapshot()")
            snapshot = cursor.fetchone()[0]
            prepared = find_prepared(cursor)
            arguments = [
                "--no-password",
                "--format=custom",
                "--compress=3",
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={LOCK_TIMEOUT}",
                *(f"--exclude-table-data=public.{table}" for table in self.without_rows),
                *(f"--exclude-table={Table(table.schema or 'public', table.name).quoted(self.vendor)}" for table in prepared),
            ]
            with clients.run_client(self.place, client, arguments, self.client_environment()) as process:
                for chunk in clients.read_chunks(self.place, process):
                    out.write(chunk)
                    progress(len(chunk))
            return measure_tables(connection, self.without_rows, prepared)

    def refuse_unreadable(self, cursor: Any) -> None:
        """Raise AccessDenied with the tables that the user may not read, or of which a policy hides rows."""
        cursor.execute(UNREADABLE)
        if found := cursor.fetchall():
            schemas, names = ", ".join(sorted({row[0] for row in found})), [row[1] for row in found]
            first, role = ", ".join(names[:NAMES_SHOWN]), self.quote_user()
            grant = f"GRANT USAGE ON SCHEMA {schemas} TO {role}; GRANT SELECT ON {first} TO {role}"
            grant += " and the same for the others" if len(names) > NAMES_SHOWN else ""
            problem = f"user {self.settings['USER']!r} may not read {join_names(names)}, which a backup has to"
            raise AccessDenied(f"{self.place}: {problem}. Run {grant}, then run the command again.")
        cursor.execute(ROW_SECURITY)
        if hiding := ", ".join(row[0] for row in cursor.fetchmany(NAMES_SHOWN)):
            problem = f"row security hides rows of {hiding} from user {self.settings['USER']!r}"
            raise AccessDenied(f"{self.place}: {problem}. Run ALTER ROLE {self.quote_user()} BYPASSRLS, then run the command again.")

    def list_databases(self, cursor: Any) -> list[str]:
        cursor.execute("SELECT datname FROM pg_database")
        return [row[0] for row in cursor.fetchall()]

    def lock_name(self, cursor: Any, name: str) -> bool:
        cursor.execute("SET idle_session_timeout = 0")
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        return bool(cursor.fetchone()[0])

    def load(self, file: DumpFile, progress: ByteCounter, all_rows: bool = True) -> list[str]:
        client = self.find_client("pg_restore")
        flags = ["--no-password", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        flags += [] if all_rows else ["--schema-only"]
        flags += ["--clean", "--if-exists"] if self.has_objects() else []
        entries = self.read_entries(client, file)
        left_out, refused = self.find_refused(entries)
        with write_listing([entry for entry in entries if entry[0] not in left_out]) as listing:
            arguments = [*flags, f"--use-list={listing}", f"--dbname={make_conninfo(dbname=self.settings['NAME'])}"]
            try:
                with file.open() as stream, clients.run_client(self.place, client, arguments, self.client_environment(), source=stream):
                    pass
            except Terminal as error:
                reasons = [*refused, *self.describe_absent(entries, left_out)]
                raise type(error)(" ".join([str(error), *(f"{reason}." for reason in reasons)])) from error
        progress(file.path.stat().st_size)
        return refused

    def describe_absent(self, entries: list[tuple[str, str]], left_out: set[str]) -> list[str]:
        """Return the sentence for extensions that the configured database has and a throwaway one has not: tables may use their types."""
        names = [name for number, text in entries if number in left_out and (name := extension_of(text))]
        if not (self.is_throwaway and names):
            return []
        cause = f"its throwaway database is without {', '.join(names)}, which {self.settings['USER']!r} may not create there"
        return [f"{self.place}: {cause}. Name a superuser in {settings.VARIABLES[self.alias]} for this command"]

    def has_objects(self) -> bool:
        """Return True if the database has anything that the dump may have, too."""
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute(HAS_OBJECTS)
            return bool(cursor.fetchone()[0])

    def find_refused(self, entries: list[tuple[str, str]]) -> tuple[set[str], list[str]]:
        """Return the entries to leave out, and a message for each that is missing then: those that only a superuser may create.

        An extension that the database has is left as it is, in a throwaway one also one that the configured database has.
        """
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            is_superuser = bool(cursor.fetchone()[0])
            cursor.execute(CREATABLE_EXTENSIONS)
            creatable = {row[0] for row in cursor.fetchall()}
            present = list_extensions(cursor)
        with type(self)(self.alias).session() as connection, connection.cursor() as cursor:
            present_there = list_extensions(cursor)
        left_out, refused = set(), []
        for number, text in entries:
            name = extension_of(text)
            if self.is_throwaway and SUBSCRIPTION_ENTRY.match(text):
                left_out.add(number)  # it would keep the throwaway database from being dropped
                continue
            if name in present or (not is_superuser and is_refused(text, name, creatable)):
                left_out.add(number)
            if number not in left_out or EXTENSION_COMMENT.match(text) or name in present | present_there:
                continue
            if name:
                step = f"Let its administrator run CREATE EXTENSION {quote_word(name)} in {self.settings['NAME']}"
                refused.append(f"{self.place}: extension {name} cannot be created by {self.settings['USER']!r}. {step}")
            else:
                what = text.rsplit(" ", 1)[0].replace(" - ", " ").lower()
                refused.append(f"{self.place}: {what} can be created by a superuser only. Let the administrator restore it by hand")
        return left_out, refused

    def read_entries(self, client: clients.Client, file: DumpFile) -> list[tuple[str, str]]:
        """Return what the dump lists: an entry's ids and its description."""
        with file.open() as stream, clients.run_client(self.place, client, ["--list"], {}, source=stream) as process:
            lines = b"".join(clients.read_chunks(self.place, process)).decode(errors="replace").splitlines()
        return [(match[1], match[2]) for line in lines if (match := ENTRY.match(line))]

    def restore_grants(self, file: DumpFile) -> list[str]:
        """Run the grants one by one, so that a role that does not exist leaves the others their rights; return the missing roles."""
        missing = []
        with self.session() as connection, connection.cursor() as cursor:
            for statement in self.read_grants(file):
                try:
                    cursor.execute(statement)
                except Exception as error:
                    if not isinstance(error.__cause__, psycopg.errors.UndefinedObject | psycopg.errors.InsufficientPrivilege):
                        raise
                    missing.append(name_role(statement))
        return sorted(set(missing))

    def read_grants(self, file: DumpFile) -> list[str]:
        """Return the statements of a dump that grant and revoke, also on tables to come; no line of a function that looks like one."""
        client = self.find_client("pg_restore")
        entries = [entry for entry in self.read_entries(client, file) if GRANT_ENTRY.match(entry[1])]
        with write_listing(entries) as listing:
            arguments = ["--no-owner", f"--use-list={listing}", "--file=-"]
            with file.open() as stream, clients.run_client(self.place, client, arguments, {}, source=stream) as process:
                script = b"".join(clients.read_chunks(self.place, process)).decode(errors="replace")
        return [line for line in script.splitlines() if line.startswith(GRANTING) and line.endswith(";")]


@contextmanager
def write_listing(entries: list[tuple[str, str]]) -> Iterator[str]:
    """Write the entries as `--use-list` reads them; yield the name of the file."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".list") as listing:
        listing.writelines(f"{number} {text}\n" for number, text in entries)
        listing.flush()
        yield listing.name


def name_role(statement: str) -> str:
    """Return the role that a GRANT or a REVOKE names."""
    match = ROLE.search(statement)
    return match[1].strip('"').replace('""', '"') if match else statement


def find_prepared(cursor: Any) -> list[Table]:
    """Return the tables in which runs have prepared what they are going to publish: dropped at any moment, and prepared anew if missing."""
    cursor.execute(PREPARING_SCHEMAS)
    found = []
    for schema in [row[0] for row in cursor.fetchall()]:
        cursor.execute(PREPARED.format(table=Table(schema, "etl_prepared").quoted("postgresql")), [schema])
        found += [Table("" if schema == "public" else schema, row[0]) for row in cursor.fetchall()]
    return found


def quote_word(name: str) -> str:
    """Return the name as a statement spells it: in quotes where it needs them."""
    return name if WORD.fullmatch(name) else quote_name("postgresql", name)


def list_extensions(cursor: Any) -> set[str]:
    cursor.execute("SELECT extname FROM pg_extension")
    return {row[0] for row in cursor.fetchall()}


def extension_of(text: str) -> str:
    """Return the name of the extension that an entry creates, or ""."""
    match = EXTENSION.match(text)
    return match[1] if match else ""


def is_refused(text: str, extension: str, creatable: set[str]) -> bool:
    """Return True if only a superuser, or the owner of an extension, may create this entry."""
    return extension not in creatable if extension else bool(EXTENSION_COMMENT.match(text) or SUPERUSER_ENTRY.match(text))


def find_version_mismatch(server: int, version: str) -> str:
    """Return why a program that prints this version does not fit a server of this major version, or "".

    An older program refuses to dump. A dump by a newer one may not restore, which must be noticed when the backup is made.
    """
    match = re.search(r"\b[0-9]+", version)
    program = int(match[0]) if match else 0
    if program < server:
        return "older"
    return "too new to restore there" if program >= TRANSACTION_TIMEOUT_VERSION > server else ""
