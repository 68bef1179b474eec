"""What the user of a connection may do: whether it may write, and what it may do beyond what TechMarket needs of it."""

import os
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.etl.preconditions import RIGHTS, list_needed, own_tables
from techmarket.roles import WEB, WORKER, Role, find_role

SHOWN_RIGHTS = 3
MAY_WRITE_SQL = {
    "mysql": (
        "SELECT NOT @@global.read_only AND EXISTS (SELECT 1 FROM ("
        "SELECT grantee, privilege_type FROM information_schema.user_privileges UNION ALL "
        "SELECT grantee, privilege_type FROM information_schema.schema_privileges WHERE DATABASE() LIKE table_schema UNION ALL "
        "SELECT grantee, privilege_type FROM information_schema.table_privileges WHERE table_schema = DATABASE()"
        ") AS rights WHERE privilege_type = 'INSERT' AND grantee = "
        "CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), ''''))"
    ),
    "postgresql": (
        "SELECT current_setting('transaction_read_only') = 'off' AND bool_and(COALESCE(has_table_privilege("
        "to_regclass(quote_ident(name)), 'INSERT'), has_schema_privilege(current_schema(), 'CREATE'))) FROM unnest(%s::text[]) AS own(name)"
    ),
}
# A source is read: neither SELECT nor looking at views and at what else is connected changes it.
BEYOND_READING = """
SELECT DISTINCT privilege_type FROM (
    SELECT grantee, privilege_type FROM information_schema.user_privileges UNION ALL
    SELECT grantee, privilege_type FROM information_schema.schema_privileges UNION ALL
    SELECT grantee, privilege_type FROM information_schema.table_privileges
) AS rights WHERE privilege_type NOT IN ('USAGE', 'SELECT', 'SHOW VIEW', 'SHOW DATABASES', 'PROCESS', 'REPLICATION CLIENT')
    AND grantee = CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')
ORDER BY 1
"""
ATTRIBUTES = """
SELECT concat_ws(', ', CASE WHEN rolsuper THEN 'is a superuser' END, CASE WHEN rolcreaterole THEN 'may create roles' END,
    CASE WHEN pg_has_role(relowner, 'USAGE') THEN 'owns the tables' END)
FROM pg_roles CROSS JOIN pg_class WHERE rolname = current_user AND pg_class.oid = to_regclass('django_migrations')
"""
GRANTED = """
SELECT verb || ' on ' || name FROM unnest(%s::text[]) AS own(name) CROSS JOIN unnest(%s::text[]) AS verbs(verb)
WHERE has_table_privilege(to_regclass(quote_ident(name)), verb)
"""


def may_write(connection: BaseDatabaseWrapper, alias: str) -> bool:
    """Return True if the connection's user may insert rows; of our own tables, wherever its role needs to."""
    if connection.vendor == "sqlite":
        return os.access(connection.settings_dict["NAME"], os.W_OK)
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            return bool(read_column(cursor, MAY_WRITE_SQL["mysql"]))
        tables = [table for verbs, tables in list_needed(alias, find_role(cursor)) if "INSERT" in verbs for table in tables]
        return bool(read_column(cursor, MAY_WRITE_SQL["postgresql"], tables))


def find_excess(connection: BaseDatabaseWrapper, alias: str) -> str:
    """Return what the user may do that web and workers do not need, with who would do; empty where there is nothing.

    Workers own the warehouse. An SQLite file knows no users.
    """
    if connection.vendor == "sqlite":
        return ""
    with connection.cursor() as cursor:
        if alias not in settings.WAREHOUSE:
            return describe(read_column(cursor, BEYOND_READING), "SELECT is enough")
        if role := find_role(cursor):
            return describe(find_undeclared(cursor, alias, role), f"{role.name} needs less: run migrate_all as the owner")
        if alias == "default":
            return describe(read_column(cursor, ATTRIBUTES), f"web needs a user like {WEB.name}, workers and beat one like {WORKER.name}")
    return ""


def find_undeclared(cursor: Any, alias: str, role: Role) -> list[str]:
    """Return the rights on our tables that the session's user has and its role does not declare."""
    needed = {f"{verb} on {table}" for verbs, tables in list_needed(alias, role) for verb in verbs for table in tables}
    changes = [verb for verb in RIGHTS if verb != "SELECT"]
    return sorted({*read_column(cursor, GRANTED, own_tables(alias), changes)} - needed)


def read_column(cursor: Any, query: str, *parameters: Any) -> list[str]:
    cursor.execute(query, parameters or None)
    return [value for (value,) in cursor.fetchall() if value]


def describe(rights: list[str], enough: str) -> str:
    if not rights:
        return ""
    more = f" and {len(rights) - SHOWN_RIGHTS} more" if len(rights) > SHOWN_RIGHTS else ""
    return f"may do more than it needs: {', '.join(rights[:SHOWN_RIGHTS])}{more}; {enough}"
