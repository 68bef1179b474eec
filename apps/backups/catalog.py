"""What a database contains, as its own catalog has it: every type and every name, also of tables that TechMarket never reads."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

INTEGER_TYPES = {"tinyint", "smallint", "mediumint", "int", "bigint", "int2", "int4", "int8", "integer"}
DECIMAL_TYPES = {"decimal", "numeric"}

# Each query returns schema (empty for the one that names need not carry) and name of a table.
TABLES = {
    "mysql": (
        "SELECT '', TABLE_NAME FROM information_schema.TABLES"
        " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')"
    ),
    # Partitions are counted with their table; rows of a foreign table are elsewhere, those of an extension come with it.
    "postgresql": (
        "SELECT CASE nspname WHEN 'public' THEN '' ELSE nspname END, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname <> 'information_schema' AND nspname !~ '^pg_'"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"
    ),
    # A virtual table needs its module; its rows are in tables of their own.
    "sqlite": (
        "SELECT '', name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ),
}
# Schema and table as above, column, type, whether the primary key has it, whether the server computes it.
COLUMNS = {
    "mysql": (
        "SELECT '', TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), COLUMN_KEY = 'PRI',"
        " EXTRA LIKE '% GENERATED%'"  # GENERATION_EXPRESSION would make MariaDB write a file
        " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() ORDER BY ORDINAL_POSITION"
    ),
    "postgresql": (
        "SELECT CASE nspname WHEN 'public' THEN '' ELSE nspname END, relname, attname, typname, COALESCE(attnum = ANY(indkey), false),"
        " attgenerated <> '' FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace"
        " JOIN pg_type t ON t.oid = atttypid LEFT JOIN pg_index ON indrelid = c.oid AND indisprimary"
        " WHERE relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ),
    "sqlite": (
        "SELECT '', m.name, x.name, LOWER(x.type), x.pk > 0, x.hidden IN (2, 3) FROM sqlite_master m, pragma_table_xinfo(m.name) x"
        " WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY x.cid"
    ),
}


@dataclass(frozen=True)
class Table:
    """A table by its schema, which is empty where names need none, and its name; both as the server spells them."""

    schema: str
    name: str

    @property
    def label(self) -> str:
        """The name in a manifest and in messages."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def quoted(self, vendor: str) -> str:
        return ".".join(quote_name(vendor, part) for part in (self.schema, self.name) if part)


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    in_key: bool
    is_generated: bool

    @property
    def base_type(self) -> str:
        """The type without its length: SQLite has `decimal(12,2)`."""
        return self.type.partition("(")[0].removesuffix(" unsigned").strip()


def quote_name(vendor: str, name: str) -> str:
    """Return the name in the server's quotes, with those inside doubled. Django's own quoting leaves them as they are."""
    mark = "`" if vendor == "mysql" else '"'
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def list_tables(cursor: Any) -> list[Table]:
    """Return the tables, without views and without partitions, whose rows the partitioned table has."""
    cursor.execute(TABLES[cursor.db.vendor])
    return sorted((Table(read_text(schema), read_text(name)) for schema, name in cursor.fetchall()), key=lambda table: table.label)


def list_columns(cursor: Any) -> dict[Table, list[Column]]:
    """Return the columns of every table in their order."""
    cursor.execute(COLUMNS[cursor.db.vendor])
    columns: dict[Table, list[Column]] = defaultdict(list)
    for schema, table, name, type_name, in_key, is_generated in cursor.fetchall():
        column = Column(read_text(name), read_text(type_name), bool(in_key), bool(is_generated))
        columns[Table(read_text(schema), read_text(table))].append(column)
    return columns


def read_text(value: Any) -> str:
    """MySQL gives some columns of its catalog as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
