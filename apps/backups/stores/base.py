"""A database as backups use it: dump, load, measure. One class for each kind of server and one for SQLite files."""

import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups.measure import Measures, list_tables, measure_tables
from techmarket.diagnosis import diagnosed, place, server
from techmarket.errors import AccessDenied

ByteCounter = Callable[[int], None]  # called with the number of bytes written or read
READ_TIMEOUT_S = 3600  # a sum over a large table takes longer than an ordinary query may
# Tables that migrations, beat and waiting processes fill: a database with rows only there counts as unused.
FILLED_BY_MIGRATIONS = (
    "auth_group",
    "auth_group_permissions",
    "auth_permission",
    "django_celery_beat_",
    "django_content_type",
    "django_migrations",
    "orchestration_duty",
    "orchestration_hostclock",
    "orchestration_schedule",
)


class Store:
    """One database. With `name`, another database on the same server, accessed as the same user."""

    suffix: ClassVar[str]
    vendor: ClassVar[str]

    def __init__(self, alias: str, name: str = ""):
        self.alias = alias
        self.settings: dict[str, Any] = dict(connections[alias].settings_dict)
        self.settings["NAME"] = name or self.settings["NAME"]
        self.place = place(alias)

    # --- For each kind of database to implement ---

    def find_dump_program(self) -> str:
        """Return the name and version of the program that dumps the database. Raises Misconfigured where it is missing."""
        raise NotImplementedError

    def dump(self, file: Path, progress: ByteCounter) -> Measures:
        """Dump the database into a new file, as of one instant, and return its measures as of the same instant."""
        raise NotImplementedError

    def load(self, file: Path, progress: ByteCounter) -> None:
        """Load a dump into this database, which must have no tables; a failed load leaves none."""
        raise NotImplementedError

    def restore_grants(self, file: Path) -> list[str]:
        """Grant the rights in the dump to the roles that exist; return the names of the roles that do not."""
        return []

    def drop_tables(self) -> None:
        """Drop every table."""
        raise NotImplementedError

    def create_throwaway(self) -> AbstractContextManager[Self]:
        """Create an empty database under another name on the same server, and drop it at the end."""
        raise NotImplementedError

    # --- Common to all ---

    @contextmanager
    def session(self) -> Iterator[BaseDatabaseWrapper]:
        """Open a connection of its own; the driver's errors are raised as EtlError."""
        connection = connections[self.alias].copy()
        connection.settings_dict = self.settings | {"OPTIONS": dict(self.settings["OPTIONS"])}
        if connection.vendor == "mysql":
            connection.settings_dict["OPTIONS"]["read_timeout"] = READ_TIMEOUT_S
        with diagnosed(self.alias), closing(connection):
            yield connection

    def execute(self, *statements: str) -> None:
        with self.session() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def read_server_version(self) -> str:
        with self.session() as connection:
            return server(connection)

    def list_tables(self) -> list[str]:
        with self.session() as connection, connection.cursor() as cursor:
            return list_tables(cursor)

    def measure(self) -> Measures:
        with self.session() as connection:
            return measure_tables(connection)

    def list_used_tables(self) -> list[str]:
        """Return the tables with rows, without those that migrations fill."""
        with self.session() as connection, connection.cursor() as cursor:
            return [table for table in list_tables(cursor) if not table.startswith(FILLED_BY_MIGRATIONS) and has_rows(cursor, table)]


class ServerStore(Store):
    """A database on a server, where databases and tables are created and dropped with SQL."""

    max_name_length: ClassVar[int]
    limit_lock_wait: ClassVar[str]  # statement before DROP TABLE
    create_options: ClassVar[str]  # after CREATE DATABASE name
    drop_options: ClassVar[str] = ""  # after DROP DATABASE IF EXISTS name

    def throwaway_grant(self) -> str:
        """Return the statement that lets the user create throwaway databases, for an error message."""
        raise NotImplementedError

    def quote_name(self, name: str) -> str:
        return connections[self.alias].ops.quote_name(name)

    def drop_tables(self) -> None:
        if tables := self.list_tables():
            # Without CASCADE PostgreSQL keeps a table that a view reads; MySQL accepts the word and ignores it.
            self.execute(self.limit_lock_wait, f"DROP TABLE {', '.join(map(self.quote_name, tables))} CASCADE")

    @contextmanager
    def create_throwaway(self) -> Iterator[Self]:
        suffix = f"_verify_{secrets.token_hex(4)}"
        name = self.settings["NAME"][: self.max_name_length - len(suffix)] + suffix
        with self._temporary_database(self.quote_name(name)):
            yield type(self)(self.alias, name)

    @contextmanager
    def _temporary_database(self, quoted: str) -> Iterator[None]:
        """Create the database and drop it at the end, also when an interrupt comes during either statement; it comes only once."""
        drop = f"DROP DATABASE IF EXISTS {quoted} {self.drop_options}"
        try:
            self.execute(f"CREATE DATABASE {quoted} {self.create_options}")
        except AccessDenied as error:
            user = self.settings.get("USER")
            raise AccessDenied(f"{self.place}: user {user!r} may not create a throwaway database. Run {self.throwaway_grant()}.") from error
        except KeyboardInterrupt:
            self.execute(drop)
            raise
        try:
            yield
        except BaseException as error:
            # The frames may hold a connection that is half open; PostgreSQL would wait for it for a minute and then drop nothing.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            try:
                self.execute(drop)
            except KeyboardInterrupt:
                self.execute(drop)
                raise


def has_rows(cursor: Any, table: str) -> bool:
    cursor.execute(f"SELECT 1 FROM {cursor.db.ops.quote_name(table)} LIMIT 1")  # noqa: S608  a name from the database itself
    return cursor.fetchone() is not None
