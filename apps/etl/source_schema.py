"""What a source's own catalog says of one table: columns, indexes and storage engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MYSQL_COLUMNS = """
SELECT column_name, column_type, is_nullable = 'YES', extra LIKE '%%on update%%' FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %s
"""
MYSQL_INDEXES = """
SELECT DISTINCT column_name FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = %s AND seq_in_index = 1
"""
MYSQL_ENGINE = """
SELECT t.engine, e.transactions = 'YES' FROM information_schema.tables AS t
JOIN information_schema.engines AS e ON e.engine = t.engine WHERE t.table_schema = DATABASE() AND t.table_name = %s
"""
SQLITE_COLUMNS = 'SELECT name, type, NOT "notnull", 0 FROM pragma_table_info(%s)'
SQLITE_INDEXES = """
SELECT DISTINCT i.name FROM pragma_index_list(%s) AS l, pragma_index_info(l.name) AS i WHERE i.seqno = 0 AND NOT l.partial
"""


@dataclass(frozen=True)
class FoundColumn:
    """A column as the source has it. `type` is in lower case, such as `decimal(12,2) unsigned`."""

    type: str
    nullable: bool
    on_update: bool

    @property
    def word(self) -> str:
        return type_word(self.type)

    @property
    def arguments(self) -> tuple[int, ...]:
        return type_arguments(self.type)

    @property
    def is_unsigned_bigint(self) -> bool:
        return self.word == "bigint" and "unsigned" in self.type


@dataclass(frozen=True)
class FoundTable:
    """`indexed`: columns with which an index begins. `engine`: MySQL's; empty on SQLite, and for a view, which has no index either."""

    columns: Mapping[str, FoundColumn]
    indexed: frozenset[str]
    engine: str = ""
    has_transactions: bool = True


def read_table(cursor: Any, table: str) -> FoundTable:
    """Return what the catalog of the cursor's database says of `table`. The user needs no other right than SELECT."""
    if cursor.db.vendor == "sqlite":
        return FoundTable(read_columns(cursor, SQLITE_COLUMNS, table), read_indexed(cursor, SQLITE_INDEXES, table))
    cursor.execute(MYSQL_ENGINE, [table])
    engine, has_transactions = cursor.fetchone() or ("", True)
    columns = read_columns(cursor, MYSQL_COLUMNS, table)
    return FoundTable(columns, read_indexed(cursor, MYSQL_INDEXES, table), engine, bool(has_transactions))


def read_columns(cursor: Any, query: str, table: str) -> dict[str, FoundColumn]:
    cursor.execute(query, [table])
    rows = cursor.fetchall()
    return {name.lower(): FoundColumn(lower(kind), bool(nullable), bool(on_update)) for name, kind, nullable, on_update in rows}


def read_indexed(cursor: Any, query: str, table: str) -> frozenset[str]:
    cursor.execute(query, [table])
    return frozenset(name.lower() for (name,) in cursor.fetchall() if name)


def lower(text: str | bytes) -> str:
    """MySQL 8 has its catalog's texts as bytes in some columns."""
    return (text.decode() if isinstance(text, bytes) else text).lower()


def type_word(kind: str) -> str:
    """Return `decimal` of `decimal(12,2) unsigned`; empty where SQLite has a column without a type."""
    return (kind.lower().split("(")[0].split() or [""])[0]


def type_arguments(kind: str) -> tuple[int, ...]:
    """Return 12 and 2 of `decimal(12,2) unsigned`; nothing where they are no numbers, as those of an ENUM."""
    inner = kind.partition("(")[2].partition(")")[0]
    parts = [part.strip() for part in inner.split(",")]
    return tuple(map(int, parts)) if all(part.isascii() and part.isdecimal() for part in parts) else ()
