"""Check before a run reads anything: all preconditions of every database, the columns that tables.py declares, the warehouse's tables.

What cannot be read rightly is refused. What can, and is not as the source's model has it, is a warning of the run.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, models, transaction

from apps.etl.checks import NO_ROWS, Result, count_rows
from apps.etl.declarations import Column, Kind, Source
from apps.etl.interrupts import interruptible, kill_query
from apps.etl.preconditions import WAREHOUSE, check_own_tables, check_server
from apps.etl.replicas import read_alias
from apps.etl.source_schema import FoundColumn, FoundTable, read_table, type_arguments, type_word
from apps.etl.tables import FINGERPRINTED, SOURCES
from techmarket.diagnosis import close, diagnosed, place
from techmarket.errors import BadData, Misconfigured, SchemaDrift
from techmarket.messages import message

# Accepted column types by kind, by their first word in MySQL, MariaDB and SQLite.
TYPES = {
    Kind.INTEGER: ("bigint", "int", "integer", "mediumint", "smallint", "tinyint"),
    Kind.FLAG: ("tinyint", "bool", "boolean", "bit", "smallint", "int"),
    Kind.MONEY: ("decimal(12,2)", "decimal"),
    Kind.INSTANT: ("datetime", "timestamp"),
    Kind.DATE: ("date",),
    Kind.TEXT: ("varchar", "char", "text", "tinytext", "mediumtext", "longtext", "enum"),
}
MONEY_SCALE = 2
MONEY_DIGITS = 18  # of kopiykas, that int64 holds; what is above DECIMAL(12,2) is rejected row by row
LARGEST_INTEGER = 2**63 - 1
UPDATED_AT = Column("updated_at", Kind.INSTANT)
# What types without a length hold: bytes, so that two of one kind can be compared. An ENUM is not: it holds what it lists.
INTEGER_WIDTHS = {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "integer": 4, "bigint": 8}
TEXT_WIDTHS = {"tinytext": 2**8 - 1, "text": 2**16 - 1, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1, "enum": 2**32 - 1}
WIDTHS = INTEGER_WIDTHS | TEXT_WIDTHS

Fields = Mapping[str, "models.Field[Any, Any]"]  # by column


def preflight() -> list[Result]:
    """Check all databases that a run reads or writes. Return warnings; raise Misconfigured, AccessDenied or BadData with the cause and the
    next step. A source that has a replica is asked for its transactions alone."""
    aliases = dict.fromkeys([*(read_alias(source.alias) for source in SOURCES.values()), *settings.WAREHOUSE])
    warnings = [warning for alias in settings.REPLICAS for warning in check_server(alias)]
    warnings += [warning for alias in aliases for warning in [*check_server(alias), *check_database(alias)]]
    for alias in settings.DATABASES.keys() - settings.WAREHOUSE.keys():
        close(alias)  # what follows reads in snapshots: these would be idle until the server ends them
    return warnings


def check_database(alias: str) -> list[Result]:
    """Check the tables of one database, after `check_server`. Return warnings."""
    sources = [source for source in SOURCES.values() if alias in (source.alias, read_alias(source.alias))]
    warnings = [warning for source in sources for warning in check_source(source, alias)]
    if alias in settings.WAREHOUSE:
        warnings += check_own_tables(alias)
    if alias == WAREHOUSE:
        check_warehouse()
    return list(dict.fromkeys(warnings))  # a table that two targets read is looked at twice


def check_source(source: Source, alias: str) -> list[Result]:
    """Check a source's table in its own database or in its replica: `alias`."""
    with diagnosed(alias), connections[alias].cursor() as cursor, interruptible(stopper(cursor)):
        # A query on the table itself: a missing grant, table or column each raises an error of its own.
        columns = needed_columns(source)
        cursor.execute(f"SELECT {', '.join(column.name for column in columns)} FROM {source.table} WHERE 1 = 0")
        table = read_table(cursor, source.table)
        refuse_engine(cursor, source, table)
        refuse_types(cursor, source, table)
        refuse_large_integers(cursor, source, table)
        return list(find_warnings(cursor, source, table))


def stopper(cursor: Any) -> Callable[[], None]:
    """Return how to stop the cursor's query: the table may be locked, and a cancel must not wait for that."""
    if cursor.db.vendor == "mysql":
        return partial(kill_query, cursor.db.alias, cursor.db.connection.thread_id())
    return partial(cursor.db.connection.interrupt)


def needed_columns(source: Source) -> tuple[Column, ...]:
    """Return the columns on which a run relies: those that it reads, and `updated_at` where its window searches that."""
    return (*source.columns, UPDATED_AT) if has_window(source) else source.columns


def has_window(source: Source) -> bool:
    """Return True if changes of the table are looked for by `updated_at`; dimensions are compared by their content alone."""
    return source.table in {each.table for each in FINGERPRINTED}


# --- What is refused ---


def refuse_engine(cursor: Any, source: Source, table: FoundTable) -> None:
    """Two reads of a table without transactions may differ in one snapshot."""
    if not table.has_transactions:
        raise Misconfigured(message("database.no_transactions", place=place(cursor.db.alias), table=source.table, engine=table.engine))


def refuse_types(cursor: Any, source: Source, table: FoundTable) -> None:
    for column in needed_columns(source):
        found = table.columns[column.name]
        if not fits(found, column.kind, cursor.db.vendor):
            where, expected, database = f"{source.table}.{column.name}", TYPES[column.kind][0], place(cursor.db.alias)
            raise SchemaDrift(message("database.other_type", place=database, column=where, found=found.type, expected=expected))


def fits(found: FoundColumn, kind: Kind, vendor: str) -> bool:
    if kind is Kind.MONEY and vendor == "mysql":  # read as whole kopiykas: any other scale would be another amount
        digits, scale = found.arguments if found.word == "decimal" else (0, 0)
        return scale == MONEY_SCALE and digits <= MONEY_DIGITS
    return found.word in {type_word(name) for name in TYPES[kind]}


def refuse_large_integers(cursor: Any, source: Source, table: FoundTable) -> None:
    """Refuse numbers that no int64 holds. Only a BIGINT UNSIGNED can have one; no other table is searched for it."""
    unsigned = [column.name for column in source.columns if column.kind is Kind.INTEGER and table.columns[column.name].is_unsigned_bigint]
    if not unsigned:
        return
    cursor.execute(f"SELECT {', '.join(f'MAX({name})' for name in unsigned)} FROM {source.table}")
    for name, value in zip(unsigned, cursor.fetchone(), strict=True):
        if value is not None and value > LARGEST_INTEGER:
            where = f"{source.table}.{name}"
            raise BadData(
                message("database.too_large", place=place(cursor.db.alias), column=where, value=str(value), greatest=str(LARGEST_INTEGER))
            )


# --- What is a warning ---


def find_warnings(cursor: Any, source: Source, table: FoundTable) -> Iterator[Result]:
    fields = model_fields(source)
    for column in needed_columns(source):
        if column.name in fields:
            yield from compare_column(cursor, source, column, table.columns[column.name], fields[column.name])
    known = {*fields, *(column.name for column in source.columns)}
    for name, found in table.columns.items():
        if fields and name not in known:
            yield warn(source, "check.added_column", name, message("column.unknown"), message("column.not_loaded", type=found.type))
    if has_window(source):
        yield from check_updated_at(cursor, source, table)


def model_fields(source: Source) -> Fields:
    """Return the fields of the source's model; none for a table without a model."""
    for model in apps.get_app_config(source.alias).get_models():
        if model._meta.db_table == source.table:
            return {str(field.column): field for field in model._meta.local_concrete_fields}
    return {}


def compare_column(cursor: Any, source: Source, column: Column, found: FoundColumn, field: "models.Field[Any, Any]") -> Iterator[Result]:
    """Warn where the column may be empty or holds less than the model has it. Both are read rightly; empty values may be rejected."""
    if found.nullable and not field.null:
        yield warn(source, "check.nullable", column.name, "NOT NULL", "NULL")
    declared = field.db_type(connections[source.alias]) or ""
    if cursor.db.vendor == "mysql" and column.kind is not Kind.FLAG and width(found.type) < width(declared):
        yield warn(source, "check.narrowed", column.name, declared.split(" AUTO_INCREMENT")[0], found.type)


def width(kind: str) -> int:
    """Return how much a type of MySQL holds: bytes, characters, digits of an amount, decimals of a second."""
    arguments = type_arguments(kind)
    return WIDTHS.get(type_word(kind)) or (arguments[0] if arguments else 0)


def check_updated_at(cursor: Any, source: Source, table: FoundTable) -> Iterator[Result]:
    """Warn of what makes the search by `updated_at` miss changes, which then only the sweep finds, or makes it slow."""
    found, name = table.columns[UPDATED_AT.name], UPDATED_AT.name
    is_view = cursor.db.vendor == "mysql" and not table.engine
    if table.engine and not found.on_update:
        yield warn(source, "check.on_update", name, "ON UPDATE CURRENT_TIMESTAMP", message("updated_at.sweep_only"))
    if name not in table.indexed and not is_view:
        yield warn(source, "check.indexed", name, message("index.expected", column=name), message("index.none"))
    if found.nullable:
        cursor.execute(f"SELECT COUNT(*) FROM {source.table} WHERE {name} IS NULL")
        if rows := int(cursor.fetchone()[0]):
            yield warn(source, "check.not_null", name, NO_ROWS, message("updated_at.empty", rows=count_rows(rows)))


def warn(source: Source, code: str, column: str, expected: str, observed: str) -> Result:
    return Result(message(code, column=column), source.table, False, expected, observed, blocking=False)


# --- The warehouse ---


def check_warehouse() -> None:
    with diagnosed("dwh"), transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        if cursor.db.vendor == "postgresql":
            cursor.execute("SET LOCAL lock_timeout = '5s'")  # a table may be locked by DDL
        for model in apps.get_app_config("dwh").get_models():
            columns = ", ".join(str(field.column) for field in model._meta.local_concrete_fields)
            cursor.execute(f"SELECT {columns} FROM {model._meta.db_table} WHERE 1 = 0")
