"""MySQL and MariaDB: mysqldump in one transaction, and measures as of the same instant."""

import gzip
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups import clients
from apps.backups.measure import Measures, measure_tables
from apps.backups.stores.base import ByteCounter, ServerStore
from techmarket.encryption import client_arguments
from techmarket.errors import AccessDenied, Terminal

PACKAGE = "default-mysql-client (or mariadb-client)"
GZIP_LEVEL = 3
FIRST_TABLE = b"\nDROP TABLE IF EXISTS"  # from here on the transaction of mysqldump has begun
END_OF_DUMP = b"-- Dump completed"
# The first line of MariaDB's dumps: a comment that MySQL's client takes for a command.
SANDBOX_LINE = b"/*M!999999\\- enable the sandbox mode */"
LOCK_WAIT_S, LOCK_ATTEMPTS = 5, 3
ACCESS_DENIED_CODES, LOCK_WAIT_TIMEOUT_CODE = (1044, 1142), 1205
FIRST_CHUNK_TIMEOUT_S = 30.0  # tables are locked until the first chunk arrives


class MySQL(ServerStore):
    suffix = "sql.gz"
    vendor = "mysql"
    max_name_length = 64
    limit_lock_wait = f"SET foreign_key_checks = 0, lock_wait_timeout = {LOCK_WAIT_S}"
    create_options = "CHARACTER SET utf8mb4"

    def throwaway_grant(self) -> str:
        pattern = f"{self.settings['NAME']}_verify_%".replace("_", "\\_")
        return f"GRANT ALL ON `{pattern}`.* TO {self.settings['USER']!r}"

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
        return {"MYSQL_PWD": str(self.settings["PASSWORD"])} if self.settings.get("PASSWORD") else {}

    def dump(self, file: Path, progress: ByteCounter) -> Measures:
        client = self.find_client("mysqldump", "mariadb-dump")
        flags = ["--single-transaction", "--quick", "--hex-blob", "--no-tablespaces", "--max-allowed-packet=256M"]
        flags += [] if "MariaDB" in client.version else ["--set-gtid-purged=OFF", "--column-statistics=0"]
        tail = b""
        with ExitStack() as stack:
            with self.lock_writers():
                arguments = [*self.connection_arguments(client), *flags, self.settings["NAME"]]
                process = stack.enter_context(clients.run_client(self.place, client, arguments, self.client_environment()))
                chunks = clients.read_chunks(self.place, process, FIRST_CHUNK_TIMEOUT_S)
                head = read_until_transaction(chunks)
                connection = stack.enter_context(self.open_snapshot())
            out = stack.enter_context(gzip.open(file, "xb", GZIP_LEVEL))
            for chunk in chain([head.removeprefix(SANDBOX_LINE)], chunks):
                out.write(chunk)
                progress(len(chunk))
                tail = (tail + chunk)[-200:]
            measures = measure_tables(connection)
        if END_OF_DUMP not in tail:
            raise Terminal(f"{self.place}: {client.name} ended before the dump was complete. Run the command again.")
        return measures

    @contextmanager
    def lock_writers(self) -> Iterator[None]:
        """Block writes for a tenth of a second, until the dump and the measures have begun their transactions at the same instant."""
        with self.session() as connection, connection.cursor() as cursor:
            self.lock_tables(cursor)
            yield
            cursor.execute("UNLOCK TABLES")

    def lock_tables(self, cursor: Any) -> None:
        """Lock all tables for reading, waiting for long transactions. Raises AccessDenied where the user may not."""
        names = ", ".join(f"{self.quote_name(table)} READ" for table in self.list_tables())
        cursor.execute(f"SET lock_wait_timeout = {LOCK_WAIT_S}")
        for attempt in range(LOCK_ATTEMPTS):
            try:
                cursor.execute(f"LOCK TABLES {names}")
                return
            except OperationalError as error:
                if error.args[0] in ACCESS_DENIED_CODES:
                    user, grant = f"{self.settings['USER']!r}", f"GRANT LOCK TABLES ON `{self.settings['NAME']}`.*"
                    problem = f"user {user} may not lock tables, which a backup does briefly"
                    raise AccessDenied(f"{self.place}: {problem}. Run {grant} TO {user}.") from error
                if attempt + 1 == LOCK_ATTEMPTS or error.args[0] != LOCK_WAIT_TIMEOUT_CODE:
                    raise
            time.sleep(LOCK_WAIT_S)  # sessions that wait behind this lock go on meanwhile

    @contextmanager
    def open_snapshot(self) -> Iterator[BaseDatabaseWrapper]:
        """Open a session in a read-only transaction with a consistent snapshot."""
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection

    def load(self, file: Path, progress: ByteCounter) -> None:
        client = self.find_client("mysql", "mariadb")
        arguments = [*self.connection_arguments(client), "--max-allowed-packet=256M", self.settings["NAME"]]
        try:
            with (
                gzip.open(file) as dump,
                clients.run_client(self.place, client, arguments, self.client_environment(), feeds=True) as process,
            ):
                while chunk := dump.read(clients.CHUNK):
                    clients.write_chunk(process, chunk)
                    progress(len(chunk))
        except BaseException:
            self.drop_tables()
            raise


def read_until_transaction(chunks: Iterator[bytes]) -> bytes:
    """Read the head of the dump up to the first table: by then its transaction has begun."""
    head = b""
    for chunk in chunks:
        head += chunk
        if FIRST_TABLE in head:
            break
    return head
