"""Tables of PostgreSQL that are made like another, to take its place or to become a partition of it."""

from itertools import chain, count
from typing import Any

from apps.etl.declarations import Fact

# PostgreSQL reaches a column by walking the row up to it, fast as long as every column before is fixed-width and not null: with amounts
# and texts last, building indexes and foreign keys took a tenth less time.
COLUMNS_BY_WIDTH = """
SELECT format('%I %s', attname, format_type(atttypid, atttypmod)) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END FROM pg_attribute
WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attlen < 0, NOT attnotnull, attlen DESC, attnum
"""
INDEXES = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '{table}'::regclass AND NOT indisprimary"
INDEXES_AND_NAMES = """
SELECT indisprimary, pg_get_indexdef(indexrelid), quote_ident(relname) FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
WHERE indrelid = '{table}'::regclass
"""
KEYS = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = '{kind}' ORDER BY conname"
GRANTS = """
SELECT format('GRANT %s ON {replacement} TO %s', privilege_type, grantee::regrole) FROM pg_class CROSS JOIN aclexplode(relacl)
WHERE oid = '{table}'::regclass AND grantee NOT IN (0, relowner)
"""
PRIMARY, FOREIGN = "p", "f"
# A changed row finds a place on its page, and no index gets a new entry. Of 22 410 changed rows among 2.25 million, WAL of 199 MB with 100,
# 132 MB with 95 and 74 MB with 90; the first load took as long with each.
WITH_ROOM = "WITH (fillfactor = 90)"
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass"
# A table brings a type of its name with it.
NAME_TAKEN = """
SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = %(name)s AND relnamespace = current_schema()::regnamespace)
    OR EXISTS (SELECT 1 FROM pg_type WHERE typname = %(name)s AND typnamespace = current_schema()::regnamespace)
"""
MAY_BUILD = """
SELECT c.relkind = 'p' AND NOT EXISTS (SELECT 1 FROM {table}) AND pg_has_role(c.relowner, 'USAGE')
    AND has_schema_privilege(c.relnamespace, 'CREATE')
    AND NOT EXISTS (SELECT 1 FROM unnest(%s::regclass[]) AS dimension WHERE NOT has_table_privilege(dimension, 'REFERENCES'))
    AND NOT EXISTS (
        SELECT 1 FROM pg_partition_tree(c.oid) JOIN pg_class AS p ON p.oid = relid WHERE NOT pg_has_role(p.relowner, 'USAGE')
    )
FROM pg_class AS c WHERE c.oid = '{table}'::regclass
"""


def create_like(cursor: Any, table: str, relation: str, partitioned: str = "") -> None:
    """Create a table with the columns of another, but no key or index: these are made when the rows are there."""
    cursor.execute(
        f"CREATE TABLE {relation} ({', '.join(select_from_catalog(cursor, COLUMNS_BY_WIDTH, table))}) {partitioned or WITH_ROOM}"
    )


def add_keys_and_indexes(cursor: Any, table: str, relation: str) -> None:
    """Give `relation` the primary key and the indexes of `table`."""
    for definition in select_from_catalog(cursor, KEYS, table, kind=PRIMARY):
        cursor.execute(f"ALTER TABLE {relation} ADD {definition}")
    for definition in select_from_catalog(cursor, INDEXES, table):
        unique = "UNIQUE " if definition.startswith("CREATE UNIQUE") else ""
        cursor.execute(f"CREATE {unique}INDEX ON {relation}{definition[definition.index(' USING ') :]}")


def add_foreign_keys(cursor: Any, table: str, relation: str) -> None:
    for definition in select_from_catalog(cursor, KEYS, table, kind=FOREIGN):
        cursor.execute(f"ALTER TABLE {relation} ADD {definition}")


def select_from_catalog(cursor: Any, query: str, table: str, **names: str) -> list[str]:
    for name, value in {"table": table, **names}.items():
        query = query.replace(f"{{{name}}}", value)
    cursor.execute(query)
    return [row[0] for row in cursor.fetchall()]


def find_free_name(cursor: Any, name: str) -> str:
    """Return `name`, with a number where the schema has it: another's copy, or a partition of a run from before the control database was
    created anew and counted from 1 again."""
    for free in chain([name], (f"{name}_{number}" for number in count(2))):
        cursor.execute(NAME_TAKEN, {"name": free})
        if not cursor.fetchone()[0]:
            break
    return free


def replace_table(cursor: Any, table: str, replacement: str) -> None:
    """Drop a table and let another, made like it, have its name, those of its indexes and its grants."""
    names = [dict(read_indexes(cursor, each)) for each in (table, replacement)]
    for grant in select_from_catalog(cursor, GRANTS, table, replacement=replacement):
        cursor.execute(grant)
    cursor.execute(f"DROP TABLE {table}")
    cursor.execute(f"ALTER TABLE {replacement} RENAME TO {table}")
    for definition, name in names[0].items():
        cursor.execute(f"ALTER INDEX {names[1][definition]} RENAME TO {name}")


def read_indexes(cursor: Any, table: str) -> list[tuple[str, str]]:
    """Return definition and name of each index; the definition says nothing of names."""
    cursor.execute(INDEXES_AND_NAMES.replace("{table}", table))
    return [(f"{primary}{definition[definition.index(' USING ') :]}", name) for primary, definition, name in cursor.fetchall()]


def may_create(cursor: Any) -> bool:
    """Return True if the user may create tables in the warehouse's schema."""
    cursor.execute("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    return bool(cursor.fetchone()[0])


def may_build(cursor: Any, fact: Fact) -> bool:
    """Return True if the fact is empty and partitioned and the user may put a new table in its place. A merge needs fewer rights."""
    cursor.execute(MAY_BUILD.format(table=fact.table), [sorted({*fact.dimension_keys.values()})])
    return bool(cursor.fetchone()[0])
