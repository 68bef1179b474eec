"""A database as backups see it. One class for each kind of server; a SQLite file is one too."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.backups.measure import Measures, measure, tables
from techmarket.diagnosis import diagnosed, place, server
from techmarket.errors import AccessDenied

Told = Callable[[int], None]  # bytes that have been written or read
PATIENT = 3600  # seconds: a sum over a large table is no hanging server
# What migrations fill, and beat keeps: a database that has rows there alone has not been used yet.
OF_MIGRATIONS = (
    "auth_group",
    "auth_group_permissions",
    "auth_permission",
    "django_celery_beat_",
    "django_content_type",
    "django_migrations",
    "orchestration_schedule",
)


class Store:
    """`name`: another database on the same server, with the same user."""

    suffix: ClassVar[str]
    vendor: ClassVar[str]

    def __init__(self, alias: str, name: str = ""):
        self.alias = alias
        self.settings: dict[str, Any] = dict(connections[alias].settings_dict)
        self.settings["NAME"] = name or self.settings["NAME"]
        self.place = place(alias)

    # --- What each kind does in its own way ---

    def ready(self) -> str:
        """What its dumps are made with, and the version. Raises Misconfigured where that is missing."""
        raise NotImplementedError

    def dump(self, file: Path, told: Told) -> Measures:
        """All of the database into a new file, as it was at one instant, and the measures of that same instant."""
        raise NotImplementedError

    def load(self, file: Path, told: Told) -> None:
        """A dump into this database, which has no tables. Where it fails, it has none afterwards either."""
        raise NotImplementedError

    def grant(self, file: Path) -> list[str]:
        """The rights that the dump knows, as far as their roles exist; the roles that do not."""
        return []

    def clear(self) -> None:
        """Drop every table."""
        raise NotImplementedError

    def another(self) -> AbstractContextManager[Self]:
        """An empty database of another name on the same server, dropped again on the way out."""
        raise NotImplementedError

    # --- What all do alike ---

    @contextmanager
    def session(self) -> Iterator[BaseDatabaseWrapper]:
        """A connection of its own. What its driver raises comes out as one of our errors."""
        connection = connections[self.alias].copy()
        connection.settings_dict = self.settings | {"OPTIONS": dict(self.settings["OPTIONS"])}
        if connection.vendor == "mysql":
            connection.settings_dict["OPTIONS"]["read_timeout"] = PATIENT
        with diagnosed(self.alias), closing(connection):
            yield connection

    def execute(self, *statements: str) -> None:
        with self.session() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    @contextmanager
    def throwaway(self, create: str, drop: str, how: str) -> Iterator[None]:
        """Inside, there is what `create` makes. An interrupt may come in the middle of either statement, and does so once."""
        try:
            self.execute(create)
        except AccessDenied as error:
            user = self.settings.get("USER")
            raise AccessDenied(f"{self.place}: user {user!r} may not make a throwaway database. Run {how}.") from error
        except KeyboardInterrupt:
            self.execute(drop)
            raise
        try:
            yield
        except BaseException as error:
            # A connection that was only half made is let go with its frames; PostgreSQL would wait a minute for it, and drop nothing.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            try:
                self.execute(drop)
            except KeyboardInterrupt:
                self.execute(drop)
                raise

    def server(self) -> str:
        with self.session() as connection:
            return server(connection)

    def tables(self) -> list[str]:
        with self.session() as connection, connection.cursor() as cursor:
            return tables(cursor)

    def measure(self) -> Measures:
        with self.session() as connection:
            return measure(connection)

    def used(self) -> list[str]:
        """The tables with rows that no migration has written."""
        with self.session() as connection, connection.cursor() as cursor:
            return [table for table in tables(cursor) if not table.startswith(OF_MIGRATIONS) and has_rows(cursor, table)]


def has_rows(cursor: Any, table: str) -> bool:
    cursor.execute(f"SELECT 1 FROM {cursor.db.ops.quote_name(table)} LIMIT 1")  # noqa: S608  a name from the database itself
    return cursor.fetchone() is not None
