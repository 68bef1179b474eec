"""MySQL and MariaDB: mysqldump in one transaction, and measures as of the same instant."""

import gzip
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import chain
from typing import IO, Any

import MySQLdb.cursors
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups import clients
from apps.backups.catalog import Column, Table, list_columns, list_tables, quote_name, read_text
from apps.backups.dump_file import DumpFile
from apps.backups.measure import Measures, measure_tables
from apps.backups.stores import mysql_objects, mysql_rights
from apps.backups.stores.base import NAMES_SHOWN, ByteCounter, ServerStore
from apps.backups.stores.mysql_objects import StoredObject
from techmarket.encryption import client_arguments
from techmarket.errors import AccessDenied, EtlError, Misconfigured, Terminal

PACKAGE = "default-mysql-client (or mariadb-client)"
GZIP_LEVEL = 3
FIRST_TABLE = b"\nDROP TABLE IF EXISTS"  # from here on the transaction of mysqldump has begun
END_OF_DUMP = b"-- Dump completed"
# The first line of MariaDB's dumps: a comment that MySQL's client takes for a command.
SANDBOX_LINE = b"/*M!999999\\- enable the sandbox mode */"
CLIENT_PACKET = "1G"  # the most that a server takes; the programs use what a row needs
MEBIBYTE = 1 << 20
SMALLEST_PACKET = MEBIBYTE  # as a server may be set; the default of MariaDB is 16 MB, of MySQL 64 MB
STATEMENT_BYTES = 128 * 1024  # of an INSERT: the server's memory for one of a megabyte is more than 20
# Types whose values are bytes, besides those that end in "blob" or "binary".
BINARY_TYPES = {"bit", "vector", "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"}
BINARY_TYPES |= {"geometrycollection", "geomcollection"}
# MariaDB's program takes the bytes of a VECTOR for text; either prints a FLOAT with six digits.
INEXACT_TYPES = {"vector", "float"}
OWN_ROWS = (
    "\nSET NAMES utf8mb4;\n"
    "SET SESSION foreign_key_checks = 0, unique_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00';\n"
)
# In dumps of earlier versions, of a view or a trigger: only an administrator may name one.
OLD_DEFINER = re.compile(rb"^(/\*!50013 |/\*!50003 CREATE\*/ /\*!50017 )DEFINER=`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)? ?")
LOCK_WAIT_S, LOCK_ATTEMPTS = 5, 3
ACCESS_DENIED_CODES, LOCK_WAIT_TIMEOUT_CODE = (1044, 1142), 1205
NO_FILE = "/nonexistent"  # MySQL's programs read ~/.mylogin.cnf even with --no-defaults, and its password beats MYSQL_PWD
FIRST_CHUNK_TIMEOUT_S = 30.0  # tables are locked until the first chunk arrives


class MySQL(ServerStore):
    suffix = "sql.gz"
    vendor = "mysql"
    max_name_length = 64
    limit_lock_wait = f"SET foreign_key_checks = 0, lock_wait_timeout = {LOCK_WAIT_S}"
    create_options = "CHARACTER SET utf8mb4"

    def throwaway_grant(self) -> str:
        pattern = f"{self.settings['NAME']}_verify_%".replace("_", "\\_")
        return f"GRANT ALL ON `{pattern}`.* TO {self.read_account()}"

    def read_account(self) -> str:
        """Return the user as GRANT names it: with the host under which the server knows it."""
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_USER()")
            user, _, host = read_text(cursor.fetchone()[0]).rpartition("@")
        return f"'{user}'@'{host}'"

    def find_dump_program(self) -> str:
        return self.find_client("mysqldump", "mariadb-dump").version

    def find_client(self, mysql_name: str, mariadb_name: str) -> clients.Client:
        """Return the program of the server's own vendor, or the other's: each works with both."""
        with self.session() as connection:
            names = [mysql_name, mariadb_name]
            names = names[::-1] if getattr(connection, "mysql_is_mariadb", False) else names
        return clients.find_client(self.place, PACKAGE, *names)

    def connection_arguments(self, client: clients.Client) -> list[str]:
        """Return the arguments to connect with, encrypted as the driver's connections are."""
        arguments = [
            "--no-defaults",
            f"--{'socket' if self.settings['HOST'].startswith('/') else 'host'}={self.settings['HOST']}",
            f"--user={self.settings['USER']}",
            "--default-character-set=utf8mb4",
        ]
        arguments += [f"--port={self.settings['PORT']}"] if self.settings.get("PORT") else []
        arguments += client_arguments(self.settings, "MariaDB" in client.version)
        return arguments

    def client_environment(self) -> Mapping[str, str]:
        password = {"MYSQL_PWD": str(self.settings["PASSWORD"])} if self.settings.get("PASSWORD") else {}
        return password | {"MYSQL_TEST_LOGIN_FILE": NO_FILE}

    def dump(self, out: IO[bytes], progress: ByteCounter) -> Measures:
        client = self.find_client("mysqldump", "mariadb-dump")
        with self.session() as connection, connection.cursor() as cursor:
            self.refuse_unreadable(cursor)
            objects, hidden = mysql_objects.read_objects(cursor)
            views = [name for kind, name in mysql_objects.list_objects(cursor) if kind == "view"]
            columns = {table: each for table, each in list_columns(cursor).items() if table.name not in views}
            self.notes = self.describe_hidden(hidden, mysql_rights.list_unseen_kinds(cursor))
        by_hand = [table for table in columns if any(map(needs_own_insert, columns[table])) and table.label not in self.without_rows]
        structures = [table.name for table in columns if table in by_hand or table.label in self.without_rows]
        ignored = [f"--ignore-table={self.settings['NAME']}.{name}" for name in [*views, *structures]]
        with ExitStack() as stack:
            with self.lock_writers():
                chunks = stack.enter_context(self.run_dump(client, *ignored))
                head = read_until_transaction(chunks)
                connection = stack.enter_context(self.open_snapshot())
            meter = LineMeter(stack.enter_context(gzip.open(out, "wb", GZIP_LEVEL)))
            for chunk in chain([head.removeprefix(SANDBOX_LINE)], chunks):
                meter.write(chunk)
                progress(len(chunk))
            if structures:
                for chunk in chain(
                    stack.enter_context(self.run_dump(client, "--no-data", tables=structures)), self.write_rows(connection, by_hand)
                ):
                    meter.write(chunk.removeprefix(SANDBOX_LINE))
                    progress(len(chunk))
            meter.write(mysql_objects.write_section(objects).encode())
            if needed := find_packet(connection, meter.longest):
                self.notes.append(f"{self.place} cannot restore this backup: {self.describe_packet(needed)}, before a restore.")
            return measure_tables(connection, self.without_rows)

    def describe_packet(self, needed: int) -> str:
        """Return the cause and the step where a row does not fit into a statement."""
        step = f"Let its administrator run SET GLOBAL max_allowed_packet = {needed}"
        return f"a row is longer than its max_allowed_packet. {step}"

    def refuse_unreadable(self, cursor: Any) -> None:
        """Raise AccessDenied with the tables of which the user may read some columns only, or none."""
        database, account = quote_name("mysql", self.settings["NAME"]), self.read_account()
        names = [table.quoted("mysql") for table in list_tables(cursor) if not mysql_rights.can_read_all(cursor, table)]
        if names:
            grants = "; ".join(f"GRANT SELECT ON {database}.{name} TO {account}" for name in names[:NAMES_SHOWN])
            more = f" and the same for {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            problem = f"user {account} may not read all of {', '.join(names[:NAMES_SHOWN])}, which a backup has to"
            raise AccessDenied(f"{self.place}: {problem}. Run {grants}{more}, then run the command again.")

    def describe_hidden(self, hidden: list[str], unseen: list[str]) -> list[str]:
        """Return sentences about what the backup does not contain: objects by name, and kinds of which the user may see none."""
        unsupported = [label for label in hidden if not label.startswith(mysql_objects.KINDS)]
        notes = [f"{self.place}: a backup cannot contain {', '.join(unsupported)}. Save them by hand."] if unsupported else []
        hidden = [label for label in hidden if label not in unsupported]
        if hidden or unseen:
            names = ", ".join([*hidden, *([f"any {'other ' if hidden else ''}{', '.join(unseen)}"] if unseen else [])])
            kinds = {label.partition(" ")[0] for label in hidden} | set(unseen)
            step = f"Let its administrator run {mysql_rights.write_grants(kinds, self.settings['NAME'], self.read_account())}"
            notes.append(
                f"{self.place}: the user may not read {names}, which the backup does not contain. {step}, then run the command again."
            )
        return notes

    @contextmanager
    def run_dump(self, client: clients.Client, *options: str, tables: Sequence[str] = ()) -> Iterator[Iterator[bytes]]:
        """Run the dump program and yield its output; raise Terminal at its end where that is not the end of a dump."""
        flags = [
            "--single-transaction",
            "--quick",
            "--hex-blob",
            "--no-tablespaces",
            "--skip-triggers",
            f"--max-allowed-packet={CLIENT_PACKET}",
        ]
        flags += [f"--net-buffer-length={STATEMENT_BYTES}"]
        flags += [] if "MariaDB" in client.version else ["--set-gtid-purged=OFF", "--column-statistics=0"]
        arguments = [*self.connection_arguments(client), *flags, *options, "--", self.settings["NAME"], *tables]
        with clients.run_client(self.place, client, arguments, self.client_environment()) as process:
            tail = b""

            def read_all() -> Iterator[bytes]:
                nonlocal tail
                for chunk in clients.read_chunks(self.place, process, FIRST_CHUNK_TIMEOUT_S):
                    tail = (tail + chunk)[-200:]
                    yield chunk

            yield read_all()
        if END_OF_DUMP not in tail:
            raise Terminal(f"{self.place}: {client.name} ended before the dump was complete. Run the command again.")

    def write_rows(self, connection: BaseDatabaseWrapper, tables: list[Table]) -> Iterator[bytes]:
        """Yield INSERT statements for tables whose rows the dump program writes so that they cannot be restored, or not exactly."""
        with connection.cursor() as cursor:
            columns = list_columns(cursor)
        yield OWN_ROWS.encode()
        for table in tables:
            stored = [column for column in columns[table] if not column.is_generated]
            names = ", ".join(quote_name("mysql", column.name) for column in stored)
            insert = f"INSERT INTO {table.quoted('mysql')} ({names}) VALUES\n"
            query = f"SELECT {', '.join(map(literal_of, stored)) or 'NULL'} FROM {table.quoted('mysql')}"  # noqa: S608
            with closing(connection.connection.cursor(MySQLdb.cursors.SSCursor)) as rows:
                rows.execute(query)
                yield from write_statements(insert, map(partial(self.write_row, table), rows))

    def write_row(self, table: Table, values: tuple[Any, ...]) -> str:
        if None in values:  # the server gives NULL for what is longer than its max_allowed_packet
            raise Terminal(
                f"{self.place}: a value of {table.label} is too long for a backup: raise the server's max_allowed_packet to more than "
                "twice its length, then run the command again."
            )
        texts = (value.decode() if isinstance(value, bytes) else str(value) for value in values)
        return f"({', '.join(texts)})".replace("\r", "\\r").replace("\n", "\\n")

    @contextmanager
    def lock_writers(self) -> Iterator[None]:
        """Block writes for a tenth of a second, until the dump and the measures have begun their transactions at the same instant."""
        with self.session() as connection, connection.cursor() as cursor:
            self.lock_tables(cursor)
            yield
            cursor.execute("UNLOCK TABLES")

    def lock_tables(self, cursor: Any) -> None:
        """Lock all tables for reading, waiting for long transactions. Raises AccessDenied where the user may not."""
        names = ", ".join(f"{table.quoted(self.vendor)} READ" for table in self.list_tables())
        cursor.execute(f"SET lock_wait_timeout = {LOCK_WAIT_S}")
        for attempt in range(LOCK_ATTEMPTS):
            try:
                cursor.execute(f"LOCK TABLES {names}")
                return
            except OperationalError as error:
                if error.args[0] in ACCESS_DENIED_CODES:
                    problem = f"user {self.settings['USER']!r} may not lock tables, which a backup does briefly"
                    grant = f"GRANT LOCK TABLES ON `{self.settings['NAME']}`.* TO {self.read_account()}"
                    raise AccessDenied(f"{self.place}: {problem}. Run {grant}.") from error
                if attempt + 1 == LOCK_ATTEMPTS or error.args[0] != LOCK_WAIT_TIMEOUT_CODE:
                    raise
            time.sleep(LOCK_WAIT_S)  # sessions that wait behind this lock go on meanwhile

    @contextmanager
    def open_snapshot(self) -> Iterator[BaseDatabaseWrapper]:
        """Open a session in a read-only transaction with a consistent snapshot."""
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = '', time_zone = '+00:00'")
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection

    def load(self, file: DumpFile, progress: ByteCounter, all_rows: bool = True) -> list[str]:
        client = self.find_client("mysql", "mariadb")
        arguments = [*self.connection_arguments(client), f"--max-allowed-packet={CLIENT_PACKET}"]
        arguments += ["--init-command=SET SESSION sql_log_bin = 0"] if self.is_throwaway and self.may_skip_binary_log() else []
        arguments += [self.settings["NAME"]]
        with self.session() as connection, self.drop_tables_on_failure(), file.open() as stream, gzip.open(stream) as dump:
            lines = iter(dump)
            with clients.run_client(self.place, client, arguments, self.client_environment(), feeds=True) as process:
                for line in filter_lines(lines, all_rows):
                    if needed := find_packet(connection, len(line)):  # the server would end the connection without a cause
                        raise Misconfigured(f"{self.place}: {self.describe_packet(needed)}, then run the command again.")
                    clients.write_chunk(process, line)
                    progress(len(line))
            return self.create_objects(list(mysql_objects.read_section(line.decode() for line in lines)))

    def create_objects(self, objects: list[StoredObject]) -> list[str]:
        with self.session() as connection, connection.cursor() as cursor:
            refused = mysql_objects.create_objects(cursor, objects, self.is_throwaway)
            database = self.settings["NAME"]
            account = self.read_account() if refused else ""
        return [mysql_objects.explain_refusal(each, error, self.place, account, database) for each, error in refused if not each.is_broken]

    def may_skip_binary_log(self) -> bool:
        """Return True if the user may keep a throwaway database out of the binary log."""
        try:
            self.execute("SET SESSION sql_log_bin = 0")
        except EtlError:
            return False
        return True

    def list_databases(self, cursor: Any) -> list[str]:
        cursor.execute("SHOW DATABASES")
        return [read_text(row[0]) for row in cursor.fetchall()]

    def lock_name(self, cursor: Any, name: str) -> bool:
        cursor.execute("SET SESSION wait_timeout = 86400")
        cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
        return bool(cursor.fetchone()[0])


class LineMeter:
    """Writes into a file, and measures the longest line: a row of the dump."""

    def __init__(self, out: gzip.GzipFile):
        self.out, self.longest, self.open = out, 0, 0

    def write(self, chunk: bytes) -> None:
        self.out.write(chunk)
        first, *others = chunk.split(b"\n")
        self.longest = max(self.longest, self.open + len(first), *map(len, others))
        self.open = len(others[-1]) if others else self.open + len(first)


def find_packet(connection: BaseDatabaseWrapper, line_bytes: int) -> int:
    """Return the max_allowed_packet that a line needs, or 0 where it fits: rows before it are in the same statement."""
    needed = line_bytes + 2 * STATEMENT_BYTES
    if needed < SMALLEST_PACKET:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        return 0 if needed <= cursor.fetchone()[0] else -(-needed // MEBIBYTE) * MEBIBYTE


def needs_own_insert(column: Column) -> bool:
    """Return True if the dump program spoils the rows: values of a generated column are refused (3105), FLOAT is rounded to 6 digits."""
    return column.is_generated or column.type in INEXACT_TYPES


def literal_of(column: Column) -> str:
    """Return the SQL with which the server writes a value as a literal."""
    name = quote_name("mysql", column.name)
    if column.type in BINARY_TYPES or column.type.endswith(("blob", "binary")):
        return f"IF({name} IS NULL, 'NULL', IF(LENGTH({name}) = 0, QUOTE(''), CONCAT('0x', HEX({name}))))"
    return f"QUOTE({name} + 0e0)" if column.type == "float" else f"QUOTE({name})"


def write_statements(insert: str, rows: Iterator[str]) -> Iterator[bytes]:
    """Yield INSERT statements of about STATEMENT_BYTES."""
    some, size = [], 0
    for row in rows:
        some.append(row)
        size += len(row)
        if size > STATEMENT_BYTES:
            yield f"{insert}{',\n'.join(some)};\n".encode()
            some, size = [], 0
    if some:
        yield f"{insert}{',\n'.join(some)};\n".encode()


def filter_lines(lines: Iterator[bytes], all_rows: bool) -> Iterator[bytes]:
    """Yield the lines of a dump up to its other objects, without definers; without `all_rows` one INSERT statement of each table."""
    section, seen, is_skipping = mysql_objects.SECTION.encode(), set(), False
    for line in lines:
        if line.startswith(section):
            return
        if line.startswith(b"INSERT INTO"):
            table = line.partition(b" VALUES")[0]
            is_skipping = not all_rows and table in seen
            seen.add(table)
        elif not line.startswith(b"("):  # more rows of the statement
            is_skipping = False
            line = OLD_DEFINER.sub(rb"\1", line)
        if not is_skipping:
            yield line


def read_until_transaction(chunks: Iterator[bytes]) -> bytes:
    """Read the head of the dump up to the first table: by then its transaction has begun."""
    head = b""
    for chunk in chunks:
        head += chunk
        if FIRST_TABLE in head:
            break
    return head
