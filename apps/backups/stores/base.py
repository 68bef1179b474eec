"""A database as backups use it: dump, load, measure. One class for each kind of server and one for SQLite files."""

import re
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import IO, Any, ClassVar, Self

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups.catalog import Table, list_tables, quote_name
from apps.backups.dump_file import DumpFile
from apps.backups.measure import Measures, measure_tables
from techmarket.diagnosis import diagnosed, place, server
from techmarket.errors import AccessDenied, EtlError, ReadOnly

ByteCounter = Callable[[int], None]  # called with the number of bytes written or read
# Of the control database. Only a run that has not ended needs its batches, and they would be nearly all of the dump; whoever finds a
# backup could sign in with a session that has not ended.
WITHOUT_ROWS = ("django_session", "orchestration_batch")
THROWAWAY, THROWAWAY_DIGITS = "_verify_", 8
NAMES_SHOWN = 3
READ_TIMEOUT_S = 3600  # a sum over a large table takes longer than an ordinary query may
# Tables that migrations, beat and waiting processes fill: a database with rows only there counts as unused.
FILLED_BY_MIGRATIONS = (
    "audit_",
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


class ThrowawayRefused(AccessDenied):
    """The user may not create a throwaway database."""


class Store:
    """One database. With `name`, another database on the same server, accessed as the same user."""

    suffix: ClassVar[str]
    vendor: ClassVar[str]

    def __init__(self, alias: str, name: str = ""):
        self.alias = alias
        self.settings: dict[str, Any] = dict(connections[alias].settings_dict)
        self.settings["NAME"] = name or self.settings["NAME"]
        self.place = place(alias)
        self.is_throwaway = bool(name)
        self.notes: list[str] = []  # about what a dump could not contain
        self.without_rows = list_tables_without_rows(alias)

    # --- For each kind of database to implement ---

    def find_dump_program(self) -> str:
        """Return the name and version of the program that dumps the database. Raises Misconfigured where it is missing."""
        raise NotImplementedError

    def dump(self, out: IO[bytes], progress: ByteCounter) -> Measures:
        """Dump the database into `out`, as of one instant, and return its measures as of the same instant."""
        raise NotImplementedError

    def load(self, file: DumpFile, progress: ByteCounter, all_rows: bool = True) -> list[str]:
        """Load a dump into this database, which must have no tables; a failed load leaves none.

        Without `all_rows` it is a trial: the structure, and of rows as few as the kind of dump allows. Returns a sentence for each thing
        besides tables that the server refuses to this user, which is then missing.
        """
        raise NotImplementedError

    def restore_grants(self, file: DumpFile) -> list[str]:
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

    def list_tables(self) -> list[Table]:
        with self.session() as connection, connection.cursor() as cursor:
            return list_tables(cursor)

    def measure(self) -> Measures:
        with self.session() as connection:
            return measure_tables(connection)

    def list_used_tables(self) -> list[str]:
        """Return the tables with rows, without those that migrations fill."""
        with self.session() as connection, connection.cursor() as cursor:
            tables = [table for table in list_tables(cursor) if not table.label.startswith(FILLED_BY_MIGRATIONS)]
            return [table.label for table in tables if has_rows(cursor, table)]


class ServerStore(Store):
    """A database on a server, where databases and tables are created and dropped with SQL."""

    max_name_length: ClassVar[int]
    limit_lock_wait: ClassVar[str]  # statement before DROP TABLE
    create_options: ClassVar[str]  # after CREATE DATABASE name
    drop_options: ClassVar[str] = ""  # after DROP DATABASE IF EXISTS name

    def throwaway_grant(self) -> str:
        """Return the statement that lets the user create throwaway databases, for an error message."""
        raise NotImplementedError

    def drop_tables(self) -> None:
        if tables := self.list_tables():
            # Without CASCADE PostgreSQL keeps a table that a view reads; MySQL accepts the word and ignores it.
            self.execute(self.limit_lock_wait, f"DROP TABLE {', '.join(table.quoted(self.vendor) for table in tables)} CASCADE")

    @contextmanager
    def drop_tables_on_failure(self) -> Iterator[None]:
        """Drop every table where anything fails inside. What failed is raised, also where the server is gone and drops nothing."""
        try:
            yield
        except BaseException:
            with suppress(EtlError):
                self.drop_tables()
            raise

    # --- Throwaway databases ---

    @property
    def throwaway_prefix(self) -> str:
        return str(self.settings["NAME"])[: self.max_name_length - len(THROWAWAY) - THROWAWAY_DIGITS] + THROWAWAY

    @contextmanager
    def create_throwaway(self) -> Iterator[Self]:
        name = self.throwaway_prefix + secrets.token_hex(THROWAWAY_DIGITS // 2)
        # The lock shows other verifications that this database is in use; it ends with this process, however that ends.
        with self.session() as connection, connection.cursor() as cursor:
            self.sweep_throwaways(cursor)
            self.lock_name(cursor, name)
            with self._temporary_database(quote_name(self.vendor, name)):
                yield type(self)(self.alias, name)

    def sweep_throwaways(self, cursor: Any) -> None:
        """Drop the databases that killed verifications have left."""
        left = re.compile(f"{re.escape(self.throwaway_prefix)}[0-9a-f]{{{THROWAWAY_DIGITS}}}")
        for name in filter(left.fullmatch, self.list_databases(cursor)):
            if self.lock_name(cursor, name):
                with suppress(AccessDenied, ReadOnly):
                    self.execute(f"DROP DATABASE IF EXISTS {quote_name(self.vendor, name)} {self.drop_options}")

    def list_databases(self, cursor: Any) -> list[str]:
        """Return the names of the server's databases that the user sees."""
        raise NotImplementedError

    def lock_name(self, cursor: Any, name: str) -> bool:
        """Lock a name until the session ends; return False where another session has it."""
        raise NotImplementedError

    @contextmanager
    def _temporary_database(self, quoted: str) -> Iterator[None]:
        """Create the database and drop it at the end, also when an interrupt comes during either statement; it comes only once."""
        drop = f"DROP DATABASE IF EXISTS {quoted} {self.drop_options}"
        try:
            self.execute(f"CREATE DATABASE {quoted} {self.create_options}")
        except AccessDenied as error:
            user = self.settings.get("USER")
            raise ThrowawayRefused(
                f"{self.place}: user {user!r} may not create a throwaway database. Run {self.throwaway_grant()}."
            ) from error
        except ReadOnly as error:
            raise ReadOnly(read_only_message(self.place, self.alias)) from error
        except KeyboardInterrupt:
            self.execute(drop)
            raise
        try:
            yield
        except BaseException as error:
            # The frames may hold a connection that is half open; PostgreSQL would wait for it for a minute and then drop nothing.
            traceback.clear_frames(error.__traceback__)
            with suppress(EtlError):  # what failed matters more; the next verification drops the database
                self._drop(drop)
            raise
        self._drop(drop)

    def _drop(self, statement: str) -> None:
        try:
            self.execute(statement)
        except KeyboardInterrupt:
            self.execute(statement)
            raise


def list_tables_without_rows(alias: str) -> tuple[str, ...]:
    """Return the tables whose rows are in no backup of this database."""
    if alias == "default":
        return WITHOUT_ROWS
    models = apps.get_app_config(alias).get_models() if alias in settings.SOURCES else ()
    return tuple(model._meta.db_table for model in models if getattr(model, "is_short_lived", False))


def read_only_message(where: str, alias: str) -> str:
    """Return the sentence for a server that takes no throwaway database; another one may verify a backup that exists."""
    return (
        f"{where} is read-only: nothing can be restored there. Name a server that takes writes in {settings.VARIABLES[alias]}, "
        "then run `manage.py backup --verify NAME` or the restore again."
    )


def has_rows(cursor: Any, table: Table) -> bool:
    cursor.execute(f"SELECT 1 FROM {table.quoted(cursor.db.vendor)} LIMIT 1")  # noqa: S608  a name from the database itself
    return cursor.fetchone() is not None


def join_names(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
