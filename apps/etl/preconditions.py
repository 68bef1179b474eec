"""What a database must be for a run, whatever is in it: version, encoding, schema, rights and settings that nobody can change in a session.

SERVER_PRECONDITIONS need no table, and `migrate_all` asks for them, too; OWN_TABLES_PRECONDITIONS are about the control database and the
warehouse. The preflight and `manage.py ping` ask for both kinds, so that ping shows beforehand what a run would refuse.
"""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections, transaction

from apps.audit.models import Entry
from apps.etl.checks import Result
from apps.etl.replicas import read_position
from apps.etl.tables import FACTS
from techmarket.diagnosis import database_message, diagnosed, place
from techmarket.errors import AccessDenied, Misconfigured, ReadOnly
from techmarket.messages import message
from techmarket.roles import Role, find_needed, find_role, own_models

OWN = tuple(settings.WAREHOUSE)
WAREHOUSE = "dwh"
# Django refuses older ones of MySQL and MariaDB. SQLite: FULL JOIN and IS DISTINCT FROM.
OLDEST = {"postgresql": (15,), "mysql": (8, 0, 11), "mariadb": (10, 5), "sqlite": (3, 39)}
LARGEST_QUERY = 262_144  # bytes: a list of IDS_PER_QUERY ids takes up to 110 000
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
APPENDING_RIGHTS = ("SELECT", "INSERT")

Warnings = Collection[Result]


@dataclass(frozen=True)
class Precondition:
    """`check` raises what is wrong, with the next step, or returns warnings. `vendor`: the kind of server, empty for all."""

    aliases: Collection[str]
    vendor: str
    check: Callable[[Any, str], Warnings]


def check_server(alias: str) -> list[Result]:
    """Check what needs no table. Raises Misconfigured, AccessDenied or ReadOnly."""
    return check_all(SERVER_PRECONDITIONS, alias)


def check_own_tables(alias: str) -> list[Result]:
    """Check what concerns our own tables; none that is missing, which is for the migrations to say."""
    return check_all(OWN_TABLES_PRECONDITIONS, alias)


def check_all(preconditions: Collection[Precondition], alias: str) -> list[Result]:
    vendor = connections[alias].vendor
    warnings: list[Result] = []
    with diagnosed(alias), lock_timeout(alias), connections[alias].cursor() as cursor:
        for each in preconditions:
            if alias in each.aliases and each.vendor in ("", vendor):
                warnings += each.check(cursor, alias)
    return warnings


@contextmanager
def lock_timeout(alias: str) -> Iterator[None]:
    """Wait five seconds at most for a table that DDL has locked. Elsewhere than in PostgreSQL nothing here waits for a table."""
    if connections[alias].vendor != "postgresql":  # a transaction of SQLite would wait for whoever writes
        yield
        return
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        yield


# --- The server ---


def refuse_old_server(cursor: Any, alias: str) -> Warnings:
    connection = cursor.db
    is_mariadb = bool(getattr(connection, "mysql_is_mariadb", False))
    oldest, found = OLDEST["mariadb" if is_mariadb else connection.vendor], connection.get_database_version()
    if tuple(found) < oldest:
        kind = "MariaDB" if is_mariadb else connection.display_name
        needed, found = (".".join(map(str, version)) for version in (oldest, found))
        raise Misconfigured(database_message("database.too_old", alias, f"{kind} {needed} or later is required (found {found})"))
    return ()


def refuse_other_encoding(cursor: Any, alias: str) -> Warnings:
    """SQL_ASCII takes any bytes for a text, and LATIN1 has no Cyrillic."""
    cursor.execute("SHOW server_encoding")
    (found,) = cursor.fetchone()
    if found != "UTF8":
        raise Misconfigured(database_message("database.encoding", alias, found))
    return ()


def refuse_read_only(cursor: Any, alias: str) -> Warnings:
    cursor.execute("SHOW transaction_read_only")
    if cursor.fetchone()[0] == "on":
        raise ReadOnly(database_message("database.read_only", alias, ""))
    return ()


def refuse_read_only_file(cursor: Any, alias: str) -> Warnings:
    file = Path(cursor.db.settings_dict["NAME"])
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        raise ReadOnly(database_message("database.file_read_only", alias, ""))
    return ()


def refuse_without_schema(cursor: Any, alias: str) -> Warnings:
    """Where no schema of the search path may be used, our tables look missing."""
    cursor.execute("SELECT current_setting('search_path'), quote_ident(current_user) WHERE current_schema() IS NULL")
    if found := cursor.fetchone():
        raise AccessDenied(message("database.no_schema", place=place(alias), path=found[0], role=found[1]))
    return ()


def refuse_small_packets(cursor: Any, alias: str) -> Warnings:
    cursor.execute("SELECT @@max_allowed_packet")
    (found,) = cursor.fetchone()
    if found < LARGEST_QUERY:
        raise Misconfigured(message("database.small_packets", place=place(alias), found=found, needed=LARGEST_QUERY))
    return ()


def refuse_unnumbered_transactions(cursor: Any, alias: str) -> Warnings:
    """How far a replica is behind is known by the numbers of its source's transactions alone."""
    read_position(cursor)
    return ()


SERVER_PRECONDITIONS = (
    Precondition(settings.DATABASES, "", refuse_old_server),
    Precondition(OWN, "postgresql", refuse_other_encoding),
    Precondition(OWN, "postgresql", refuse_without_schema),
    Precondition(OWN, "postgresql", refuse_read_only),
    Precondition(OWN, "sqlite", refuse_read_only_file),
    Precondition(tuple(settings.DATABASES.keys() - settings.WAREHOUSE.keys()), "mysql", refuse_small_packets),
    Precondition(tuple(settings.REPLICAS), "mysql", refuse_unnumbered_transactions),
)

# --- Our own tables ---

# What a bare name means to this session, where it means anything.
FOUND = """
FROM unnest(%s::text[]) AS wanted(name) JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(name))
"""
OTHER_SCHEMA = f"""
SELECT name, c.relnamespace::regnamespace::text, own.relnamespace::regnamespace::text, quote_ident(current_user),
    quote_ident(current_database())
{FOUND} JOIN pg_class AS own ON own.oid = to_regclass('django_migrations') AND own.relnamespace <> c.relnamespace ORDER BY 1 LIMIT 1
"""
HIDDEN_ROWS = f"SELECT c.oid::regclass::text, quote_ident(current_user) {FOUND} WHERE row_security_active(c.oid) ORDER BY 1 LIMIT 1"
MISSING_RIGHTS = f"""
SELECT c.oid::regclass::text, string_agg(right_name, ', ' ORDER BY number), quote_ident(current_user)
{FOUND} CROSS JOIN unnest(%s::text[]) WITH ORDINALITY AS rights(right_name, number)
WHERE NOT has_table_privilege(c.oid, right_name) GROUP BY c.oid ORDER BY 1 LIMIT 1
"""
LOOSE_COLLATIONS = f"""
SELECT c.oid::regclass::text, quote_ident(attname), collname, format_type(atttypid, atttypmod)
{FOUND} JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_collation AS k ON k.oid = attcollation AND NOT collisdeterministic ORDER BY 1, 2 LIMIT 1
"""
MISSING_TEMPORARY = """
SELECT quote_ident(current_user), quote_ident(current_database()) WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
"""
SLOW_BUILD = """
SELECT NOT pg_has_role(relowner, 'USAGE') OR NOT has_schema_privilege(relnamespace, 'CREATE') FROM pg_class
WHERE oid = '{table}'::regclass AND NOT EXISTS (SELECT 1 FROM {table})
"""


def own_tables(alias: str) -> list[str]:
    """Return the tables whose models belong to this database."""
    return sorted({model._meta.db_table for model in own_models(alias)})


def find_one(cursor: Any, query: str, *parameters: Any) -> tuple[Any, ...] | None:
    cursor.execute(query, parameters)
    found: tuple[Any, ...] | None = cursor.fetchone()
    return found


def refuse_foreign_tables(cursor: Any, alias: str) -> Warnings:
    """Another schema may come first in the search path with a table or view of one of our names: it would be taken for ours."""
    if found := find_one(cursor, OTHER_SCHEMA, own_tables(alias)):
        names = dict(zip(("table", "found", "schema", "role", "database"), found, strict=True))
        raise Misconfigured(message("database.foreign_table", place=place(alias), **names))
    return ()


def refuse_missing_rights(cursor: Any, alias: str) -> Warnings:
    for verbs, tables in list_needed(alias, find_role(cursor)):
        if found := find_one(cursor, MISSING_RIGHTS, tables, list(verbs)):
            table, rights, role = found
            raise AccessDenied(message("database.missing_rights", place=place(alias), table=table, rights=rights, role=role))
    return ()


def list_needed(alias: str, role: Role | None) -> Iterator[tuple[Collection[str], list[str]]]:
    """Yield verbs and the tables on which the session's user needs them: what its role declares, or else all.

    The audit log is append-only: after a migration not even its owner may do more than read it and add to it.
    """
    tables, log = {*own_tables(alias)}, {Entry._meta.db_table}
    if role is None:
        yield from ((RIGHTS, sorted(tables - log)), (APPENDING_RIGHTS, sorted(tables & log)))
    elif alias == WAREHOUSE:
        yield ("SELECT",), sorted(tables)
    else:
        needed = [right for right in find_needed(role) if not right.column]
        for verb in RIGHTS:
            yield (verb,), sorted({right.table for right in needed if right.verb == verb})


def refuse_hidden_rows(cursor: Any, alias: str) -> Warnings:
    """Rows that a policy hides look deleted."""
    if found := find_one(cursor, HIDDEN_ROWS, own_tables(alias)):
        raise Misconfigured(message("database.hidden_rows", place=place(alias), table=found[0], role=found[1]))
    return ()


def refuse_loose_collations(cursor: Any, alias: str) -> Warnings:
    """Where `Kyiv` and `KYIV` are equal, a change from one to the other is not written."""
    if found := find_one(cursor, LOOSE_COLLATIONS, own_tables(alias)):
        names = dict(zip(("table", "column", "collation", "type"), found, strict=True))
        raise Misconfigured(message("database.loose_collation", place=place(alias), **names))
    return ()


def refuse_without_temporary_tables(cursor: Any, alias: str) -> Warnings:
    if (found := find_one(cursor, MISSING_TEMPORARY)) and find_role(cursor) is None:
        raise AccessDenied(message("database.no_temporary_tables", place=place(alias), role=found[0], database=found[1]))
    return ()


def warn_of_slow_build(cursor: Any, alias: str) -> Warnings:
    """An empty fact is loaded seven times faster by a user that may put a new table in its place."""
    if find_role(cursor) is not None:
        return ()
    slow = [fact.table for fact in FACTS if (find_one(cursor, SLOW_BUILD.format(table=fact.table)) or [False])[0]]
    expected, observed = message("build.expected"), message("build.slow")
    return [Result(message("check.build"), table, False, expected, observed, blocking=False) for table in slow]


OWN_TABLES_PRECONDITIONS = (
    Precondition(OWN, "postgresql", refuse_foreign_tables),
    Precondition(OWN, "postgresql", refuse_missing_rights),
    Precondition(OWN, "postgresql", refuse_hidden_rows),
    Precondition(OWN, "postgresql", refuse_loose_collations),
    Precondition((WAREHOUSE,), "postgresql", refuse_without_temporary_tables),
    Precondition((WAREHOUSE,), "postgresql", warn_of_slow_build),
)
