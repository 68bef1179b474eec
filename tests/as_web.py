"""On PostgreSQL, the requests of tests have the rights of `etl_web` and no more, as those of a real web process.

The roles have no login here. They belong to the server and stay there: another worker's databases may depend on them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connections
from django.test.client import ClientHandler

from techmarket.roles import ROLES, WEB
from tests.servers import postgresql


def create_roles(url: str) -> None:
    """Create the roles before a migration grants them anything."""
    with postgresql(url) as connection:
        for role in ROLES:
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(f"CREATE ROLE {role.name}")


def install() -> None:
    handle = ClientHandler.__call__

    def handle_as_web(self: Any, environ: Any) -> Any:
        with ExitStack() as stack:
            for alias in settings.WAREHOUSE:
                stack.enter_context(as_web(alias))
            return handle(self, environ)

    ClientHandler.__call__ = handle_as_web


@contextmanager
def as_web(alias: str) -> Iterator[None]:
    """Take the role while a request lasts, where the test has opened the database."""
    connection = connections[alias]
    if connection.vendor != "postgresql" or connection.connection is None or connection.connection.closed:
        yield
        return
    execute(alias, f"SET ROLE {WEB.name}")
    try:
        yield
    finally:
        if connection.connection is not None and not connection.connection.closed:
            with suppress(DatabaseError):  # an aborted transaction, whose end resets the role
                execute(alias, "RESET ROLE")


def execute(alias: str, statement: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
