"""MySQL and MariaDB: mysqldump in a transaction of its own, and the measures of that same instant."""

import gzip
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Self

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups import clients
from apps.backups.measure import Measures, measure
from apps.backups.stores.base import Store, Told
from techmarket.errors import AccessDenied, Terminal

PACKAGE = "default-mysql-client (or mariadb-client)"
LONGEST_NAME = 64
COMPRESSION = 3
BEGUN = b"\nDROP TABLE IF EXISTS"
COMPLETE = b"-- Dump completed"
# MariaDB's first line, a comment that MySQL's client takes for a command.
SANDBOX = b"/*M!999999\\- enable the sandbox mode */"
LOCK_WAIT, ATTEMPTS = 5, 3  # seconds, and how often
DENIED, WAITED_TOO_LONG = (1044, 1142), 1205
FIRST_WORD = 30.0  # seconds: nobody writes meanwhile


class MySQL(Store):
    suffix = "sql.gz"
    vendor = "mysql"

    def ready(self) -> str:
        return self.client("mysqldump", "mariadb-dump").version

    def client(self, of_mysql: str, of_mariadb: str) -> clients.Client:
        """The server's own before the other's; each understands both."""
        with self.session() as connection:
            ours = [of_mysql, of_mariadb]
            names = ours[::-1] if getattr(connection, "mysql_is_mariadb", False) else ours
        return clients.find(self.place, PACKAGE, *names)

    def arguments(self, client: clients.Client) -> list[str]:
        """Where to connect. A server's certificate is looked at where the address names an authority, as our driver does."""
        options, theirs = self.settings["OPTIONS"], "MariaDB" in client.version
        tls = options.get("ssl") or {}
        found = [f"--defaults-file={options['read_default_file']}" if options.get("read_default_file") else "--no-defaults"]
        found += [f"--host={self.settings['HOST']}", f"--user={self.settings['USER']}", "--default-character-set=utf8mb4"]
        found += [f"--port={self.settings['PORT']}"] if self.settings.get("PORT") else []
        found += [f"--ssl-{name}={tls[name]}" for name in ("ca", "cert", "key") if tls.get(name)]
        found += ["--loose-skip-ssl-verify-server-cert"] if theirs and not tls.get("ca") else []
        found += [f"--ssl-mode={options['ssl_mode']}"] if options.get("ssl_mode") and not theirs else []
        return found

    def environment(self) -> Mapping[str, str]:
        return {"MYSQL_PWD": str(self.settings["PASSWORD"])} if self.settings.get("PASSWORD") else {}

    def dump(self, file: Path, told: Told) -> Measures:
        client = self.client("mysqldump", "mariadb-dump")
        flags = ["--single-transaction", "--quick", "--hex-blob", "--no-tablespaces", "--max-allowed-packet=256M"]
        flags += [] if "MariaDB" in client.version else ["--set-gtid-purged=OFF", "--column-statistics=0"]
        end = b""
        with ExitStack() as stack:
            with self.held():
                arguments = [*self.arguments(client), *flags, self.settings["NAME"]]
                process = stack.enter_context(clients.started(self.place, client, arguments, self.environment()))
                chunks = clients.chunks(self.place, process, FIRST_WORD)
                begin = until_begun(chunks)
                connection = stack.enter_context(self.snapshot())
            out = stack.enter_context(gzip.open(file, "xb", COMPRESSION))
            for chunk in chain([begin.removeprefix(SANDBOX)], chunks):
                out.write(chunk)
                told(len(chunk))
                end = (end + chunk)[-200:]
            measures = measure(connection)
        if COMPLETE not in end:
            raise Terminal(f"{self.place}: {client.name} ended before its time. Run it again.")
        return measures

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody writes meanwhile: a tenth of a second, until the dump and the measures have begun at the same instant."""
        with self.session() as connection, connection.cursor() as cursor:
            self.lock(cursor)
            yield
            cursor.execute("UNLOCK TABLES")

    def lock(self, cursor: Any) -> None:
        names = ", ".join(f"`{table}` READ" for table in self.tables())
        cursor.execute(f"SET lock_wait_timeout = {LOCK_WAIT}")
        for attempt in range(ATTEMPTS):
            try:
                cursor.execute(f"LOCK TABLES {names}")
                return
            except OperationalError as error:
                if error.args[0] in DENIED:
                    may_not = f"user {self.settings['USER']!r} may not lock tables, as a backup does for a moment"
                    raise AccessDenied(f"{self.place}: {may_not}. Run GRANT LOCK TABLES ON `{self.settings['NAME']}`.* TO it.") from error
                if attempt + 1 == ATTEMPTS or error.args[0] != WAITED_TOO_LONG:
                    raise
            time.sleep(LOCK_WAIT)  # who waits behind us goes on

    @contextmanager
    def snapshot(self) -> Iterator[BaseDatabaseWrapper]:
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection

    def load(self, file: Path, told: Told) -> None:
        client = self.client("mysql", "mariadb")
        arguments = [*self.arguments(client), "--max-allowed-packet=256M", self.settings["NAME"]]
        try:
            with (
                gzip.open(file) as dump,
                clients.started(self.place, client, arguments, self.environment(), fed=True) as process,
            ):
                while chunk := dump.read(clients.CHUNK):
                    clients.feed(process, chunk)
                    told(len(chunk))
        except BaseException:
            self.clear()
            raise

    def clear(self) -> None:
        tables = ", ".join(f"`{table}`" for table in self.tables())
        if tables:
            self.execute(f"SET foreign_key_checks = 0, lock_wait_timeout = {LOCK_WAIT}", f"DROP TABLE {tables}")

    @contextmanager
    def another(self) -> Iterator[Self]:
        name = f"{self.settings['NAME'][: LONGEST_NAME - 16]}_verify_{secrets.token_hex(4)}"
        pattern = f"{self.settings['NAME']}_verify_%".replace("_", "\\_")
        how = f"GRANT ALL ON `{pattern}`.* TO it"
        with self.throwaway(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4", f"DROP DATABASE IF EXISTS `{name}`", how):
            yield type(self)(self.alias, name)


def until_begun(chunks: Iterator[bytes]) -> bytes:
    """The dump's first bytes. Its transaction has begun when it names a table."""
    begin = b""
    for chunk in chunks:
        begin += chunk
        if BEGUN in begin:
            break
    return begin
