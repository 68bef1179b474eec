"""What a MySQL database has besides tables: views, triggers, procedures, functions and events, in a dump behind its tables.

`mysqldump` writes them with their definers, whom only an administrator may name (1227), and it makes no dump at all where one view is
broken or one routine is hidden from the user. Here each is read and created by itself, and belongs to the user who restores it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import Error

from apps.backups.catalog import quote_name, read_text

MARK = "-- TechMarket: "
SECTION = f"{MARK}views, triggers, procedures, functions and events"
END = f"{MARK}end"
BROKEN = "-- broken in its source\n"
ACCOUNT = r"(?:`(?:[^`]|``)*`|[\w.]+)(?:@(?:`(?:[^`]|``)*`|[\w.%-]+))?"
DEFINER = re.compile(rf"(CREATE (?:OR REPLACE )?(?:ALGORITHM=\w+ )?)DEFINER=({ACCOUNT}) ?")
EVENT_STATE = re.compile(r"(ON COMPLETION (?:NOT )?PRESERVE) (?:ENABLE|DISABLE(?: ON \w+)?)")
# In the order of creation: a view may call a function. Views may read views: what fails is tried again after the others.
KINDS = ("function", "procedure", "view", "trigger", "event")
# Column with the statement in the answer of SHOW CREATE.
STATEMENT_COLUMN = {"function": 2, "procedure": 2, "view": 1, "event": 3}
GRANTS = {"function": "CREATE ROUTINE, ALTER ROUTINE, EXECUTE", "view": "CREATE VIEW, SHOW VIEW", "trigger": "TRIGGER", "event": "EVENT"}
GRANTS["procedure"] = GRANTS["function"]
BINARY_LOG_CODES = (1418, 1419)
DENIED_CODES = (1044, 1045, 1142, 1227, 1370)
LOST_CODES = (2006, 2013, 2055)


@dataclass(frozen=True)
class StoredObject:
    """A view, trigger, procedure, function or event. `statement` creates it and names no definer."""

    kind: str
    name: str
    statement: str
    sql_mode: str = ""
    time_zone: str = ""
    is_broken: bool = False  # a view that its source cannot read either: perhaps its definer is gone, perhaps a table

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name}"

    def to_sql(self) -> str:
        """Return a section of a dump, which MySQL's client can execute, too."""
        head = f"{MARK}{self.label.replace(chr(10), ' ')}\n"
        setting = f"SET SESSION sql_mode = '{self.sql_mode}'{self.time_zone and f', time_zone = {chr(39)}{self.time_zone}{chr(39)}'};\n"
        return f"{head}{BROKEN if self.is_broken else ''}{setting}DELIMITER ;;\n{self.statement}\n;;\nDELIMITER ;\n"


class Hidden(Exception):
    """The user may not read the statement that creates an object, or a dump has no place for it."""


def read_objects(cursor: Any) -> tuple[list[StoredObject], list[str]]:
    """Return the objects of the session's database, and the labels of those that the user may not read or the server cannot show."""
    found, hidden = [], []
    for kind, name in list_objects(cursor):
        try:
            found.append(read_object(cursor, kind, name))
        except (Hidden, Error) as error:
            if error.args and error.args[0] in LOST_CODES:
                raise
            hidden.append(f"{kind} {name}")
    return found, hidden


def list_objects(cursor: Any) -> list[tuple[str, str]]:
    """Return kind and name in the order in which they can be created; triggers of one event keep theirs. Kinds besides KINDS come last."""
    cursor.execute("SELECT LOWER(ROUTINE_TYPE), ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE()")
    found = list(cursor.fetchall())
    cursor.execute("SELECT 'view', TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE()")
    found += cursor.fetchall()
    cursor.execute(
        "SELECT 'trigger', TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"
        " ORDER BY EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER"
    )
    found += cursor.fetchall()
    cursor.execute("SELECT 'event', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()")
    found += cursor.fetchall()
    named = [(read_text(kind), read_text(name)) for kind, name in found]
    others = sorted({kind for kind, _ in named}.difference(KINDS))  # packages of MariaDB, libraries of MySQL 9: nothing here writes them
    return [each for kind in (*KINDS, *others) for each in named if each[0] == kind]


def read_object(cursor: Any, kind: str, name: str) -> StoredObject:
    """Raises Hidden, or the driver's error."""
    if kind not in KINDS:
        raise Hidden
    if kind == "trigger":
        return read_trigger(cursor, name)
    cursor.execute(f"SHOW CREATE {kind} {quote_name('mysql', name)}")
    row = cursor.fetchone()
    if row is None or row[STATEMENT_COLUMN[kind]] is None:
        raise Hidden
    statement = DEFINER.sub(r"\1", read_text(row[STATEMENT_COLUMN[kind]]), count=1)
    if kind == "view":
        if can_read(cursor, name):
            return StoredObject(kind, name, statement)
        return StoredObject(kind, name, without_database(cursor, statement), is_broken=True)
    return StoredObject(kind, name, statement, read_text(row[1]), read_text(row[2]) if kind == "event" else "")


def without_database(cursor: Any, statement: str) -> str:
    """MariaDB names the database before each table of a view whose definer is gone: it could be restored nowhere else."""
    cursor.execute("SELECT DATABASE()")
    return statement.replace(f"{quote_name('mysql', read_text(cursor.fetchone()[0]))}.", "")


def can_read(cursor: Any, view: str) -> bool:
    try:
        cursor.execute(f"SELECT 1 FROM {quote_name('mysql', view)} LIMIT 0")  # noqa: S608  a name from the catalog
    except Error as error:
        if error.args and error.args[0] in LOST_CODES:
            raise
        return False
    return True


def read_trigger(cursor: Any, name: str) -> StoredObject:
    """Compose the statement: the one that SHOW CREATE TRIGGER repeats may name its database, and then fits no other."""
    cursor.execute(
        "SELECT ACTION_TIMING, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_STATEMENT, SQL_MODE FROM information_schema.TRIGGERS"
        " WHERE TRIGGER_SCHEMA = DATABASE() AND TRIGGER_NAME = %s",
        [name],
    )
    row = cursor.fetchone()
    if row is None:
        raise Hidden
    timing, event, table, action, sql_mode = map(read_text, row)
    quoted, on = quote_name("mysql", name), quote_name("mysql", table)
    return StoredObject("trigger", name, f"CREATE TRIGGER {quoted} {timing} {event} ON {on} FOR EACH ROW {action}", sql_mode)


def write_section(objects: Iterable[StoredObject]) -> str:
    return f"\n{SECTION}\nSET NAMES utf8mb4;\n{''.join(each.to_sql() for each in objects)}{END}\n"


def read_section(lines: Iterable[str]) -> Iterator[StoredObject]:
    """Yield the objects of a dump's section."""
    label, sql_mode, time_zone, is_broken = "", "", "", False
    statement: list[str] | None = None
    for line in lines:
        if statement is None and line == BROKEN:
            is_broken = True
        elif statement is None and line.startswith(MARK):
            is_broken, label = False, line.removeprefix(MARK).rstrip("\n")
        elif statement is None and line.startswith("SET SESSION"):
            sql_mode, time_zone = [*re.findall(r"'([^']*)'", line), ""][:2]
        elif line == "DELIMITER ;;\n":
            statement = []
        elif statement is not None and line == "DELIMITER ;\n":
            kind, _, name = label.partition(" ")
            yield StoredObject(kind, name, "".join(statement).removesuffix("\n;;\n"), sql_mode, time_zone, is_broken)
            statement = None
        elif statement is not None:
            statement.append(line)


def create_objects(cursor: Any, objects: list[StoredObject], are_events_disabled: bool) -> list[tuple[StoredObject, Exception]]:
    """Create the objects, however they depend on each other; return those that the server refuses. Raises where the server is gone."""
    left = objects
    while left:
        refused = [(each, error) for each in left if (error := try_to_create(cursor, each, are_events_disabled))]
        if len(refused) == len(left):
            return refused
        left = [each for each, _ in refused]
    return []


def try_to_create(cursor: Any, each: StoredObject, are_events_disabled: bool) -> Exception | None:
    statement = each.statement
    if each.kind == "event" and are_events_disabled:  # the server would execute it
        statement = EVENT_STATE.sub(r"\1 DISABLE", statement, count=1)
    try:
        cursor.execute("SET SESSION sql_mode = %s", [each.sql_mode])
        if each.time_zone:
            cursor.execute("SET SESSION time_zone = %s", [each.time_zone])
        cursor.execute(f"DROP {each.kind} IF EXISTS {quote_name('mysql', each.name)}")
        cursor.execute(statement)
    except Error as error:
        if error.args and error.args[0] in LOST_CODES:
            raise
        return error
    return None


def explain_refusal(each: StoredObject, error: Exception, place: str, account: str, database: str) -> str:
    """Return the sentence for an object that could not be created: the thing, the cause and the next step."""
    code = error.args[0] if error.args else 0
    if code in BINARY_LOG_CODES:
        cause = f"the server writes a binary log and lets only its administrator create {each.kind}s"
        step = "Let its administrator run SET GLOBAL log_bin_trust_function_creators = 1"
    elif code in DENIED_CODES:
        cause = f"user {account} may not create {each.kind}s"
        step = f"Run GRANT {GRANTS[each.kind]} ON {quote_name('mysql', database)}.* TO {account}"
    else:
        cause = " ".join(str(error.args[1] if len(error.args) > 1 else error).split()).rstrip(".")
        step = "Mend it in its source"
    return f"{place}: {each.label} cannot be created ({cause}). {step}"
