"""What the session's user may see of its database: MySQL's catalog leaves out the rest, as if there were none."""

import re
from typing import Any

from django.db import Error

from apps.backups.catalog import Table, quote_name, read_text

GRANT = re.compile(r"GRANT (.+?) ON (?:\*|`((?:[^`]|``)+)`)\.\* TO ")
DENIED_CODES = (1142, 1143)  # the table, a column
ALL = "ALL PRIVILEGES"
ROUTINES = "procedures and functions"
# Each kind of object, and the rights of which one lets the catalog name it.
SHOWING = {
    "tables": {"SELECT"},
    "triggers": {"TRIGGER"},
    "events": {"EVENT"},
    ROUTINES: {"EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE", "SHOW_ROUTINE", "SHOW CREATE ROUTINE"},
}
RIGHTS = {"SELECT": {"tables"}, "SHOW VIEW": {"view"}, "TRIGGER": {"triggers", "trigger"}, "EVENT": {"events", "event"}}
ROUTINE_TABLE = "ON `mysql`.`proc` TO"  # MariaDB shows every routine to a user who may read it
READ_ROUTINES = "GRANT SHOW_ROUTINE ON *.* TO {account} (MariaDB: SELECT ON mysql.proc)"


def can_read_all(cursor: Any, table: Table) -> bool:
    """Return False if the server refuses a column of the table to the user."""
    try:
        cursor.execute(f"SELECT * FROM {table.quoted('mysql')} LIMIT 0")  # noqa: S608  a name from the catalog
    except Error as error:
        if error.args[:1] and error.args[0] in DENIED_CODES:
            return False
        raise
    return True


def list_unseen_kinds(cursor: Any) -> list[str]:
    """Return the kinds of objects of which the user sees none, or not all, of its database."""
    grants = read_grants(cursor)
    rights, on_server = list_rights(cursor, grants), list_rights(cursor, [line for line in grants if " ON *.* " in line])
    if "SELECT" in on_server or any(ROUTINE_TABLE in line for line in grants):
        rights |= SHOWING[ROUTINES]
    return [] if ALL in rights else [kind for kind, showing in SHOWING.items() if not rights & showing]


def read_grants(cursor: Any) -> list[str]:
    """Return the user's grants, with those of its active roles; MySQL shows these to one who names them."""
    cursor.execute("SELECT CURRENT_ROLE()")
    roles = read_text(cursor.fetchone()[0] or "NONE")
    using = "" if cursor.db.mysql_is_mariadb or roles == "NONE" else f" FOR CURRENT_USER() USING {roles}"
    cursor.execute(f"SHOW GRANTS{using}")
    return [read_text(row[0]) for row in cursor.fetchall()]


def list_rights(cursor: Any, grants: list[str]) -> set[str]:
    """Return the rights on all of the session's database. A grant names it by a pattern, as LIKE does."""
    found: set[str] = set()
    for match in filter(None, map(GRANT.match, grants)):
        cursor.execute("SELECT DATABASE() LIKE %s", [match[2].replace("``", "`") if match[2] else "%"])
        found |= set(match[1].split(", ")) if cursor.fetchone()[0] else set()
    return found


def write_grants(kinds: set[str], database: str, account: str) -> str:
    """Return the statements that let the user see objects of these kinds."""
    rights = [right for right, shown in RIGHTS.items() if kinds & shown]
    statements = [f"GRANT {', '.join(rights)} ON {quote_name('mysql', database)}.* TO {account}"] if rights else []
    if kinds & {ROUTINES, "procedure", "function"}:
        statements.append(READ_ROUTINES.format(account=account))
    return " and ".join(statements)
