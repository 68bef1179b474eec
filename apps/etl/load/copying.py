"""Copy Arrow rows into a table in the fastest way that transfers every value exactly."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from django.db import connections, models

from apps.etl.load.binary import TooLarge, encode

# Rows of one executemany or of one COPY: about 2.5 MB of a fact. With 50 000 rows a load of a million orders took 382 MB at its peak,
# with 12 000 350 MB, in the same time.
ROWS_PER_BLOCK = 12_000
# Bytes passed to libpq at once. It moves what it could not send yet to the front of its buffer, again and again: in one piece of 8 MB
# the same COPY took 1.6 times as long.
BYTES_PER_PIECE = 262_144
TEMPORARY_SCHEMA = {"postgresql": "pg_temp", "sqlite": "temp"}


Pieces = list[memoryview]


@dataclass(frozen=True)
class Block:
    """Rows of one COPY: pieces of their binary form, or the rows where they have none. Not both: a slice takes 10 MB either way."""

    names: list[str]
    content: pa.RecordBatch | Pieces


def pack(rows: pa.Table, binary: bool) -> list[Block]:
    """Make rows ready to be copied, without the database. For `binary` they must have passed `fit_integers`."""
    return [Block(rows.schema.names, binary_pieces(block) if binary else block) for block in split(rows)]


def split(rows: pa.Table) -> list[pa.RecordBatch]:
    """Return the rows in blocks, which share their memory."""
    return list(rows.to_batches(max_chunksize=ROWS_PER_BLOCK))


def fit_integers(rows: pa.Table, model: type[models.Model]) -> pa.Table:
    """Cast integers to the width of the columns of `model`."""
    narrow = {field.column for field in model._meta.concrete_fields if field.db_type(connections["dwh"]) == "integer"}
    kinds = [pa.int32() if field.name in narrow else field.type for field in rows.schema]
    return rows.cast(pa.schema(zip(rows.schema.names, kinds, strict=True)))


def binary_pieces(rows: pa.RecordBatch) -> Pieces | pa.RecordBatch:
    """Return the binary form, or the rows themselves where an amount is too large for it."""
    try:
        return [part[start : start + BYTES_PER_PIECE] for part in encode(rows) for start in range(0, len(part), BYTES_PER_PIECE)]
    except TooLarge:
        return rows


def copy(cursor: Any, table: str, rows: pa.Table) -> None:
    """Append `rows`, whose columns have the names and the width of the table's."""
    copy_packed(cursor, table, pack(rows, binary=cursor.db.vendor == "postgresql"))


def copy_packed(cursor: Any, table: str, blocks: list[Block]) -> None:
    """Append the blocks, and take each out of the list: its memory is free for the next slice, which a thread may be packing."""
    while blocks:
        block = blocks.pop(0)
        if cursor.db.vendor == "sqlite":
            insert(cursor, table, block.content)
        elif isinstance(block.content, pa.RecordBatch):
            copy_values(cursor, table, block.content)
        else:
            copy_binary(cursor, table, block.names, block.content)


def insert(cursor: Any, table: str, block: pa.RecordBatch) -> None:
    names = block.schema.names
    marks = ", ".join(["%s"] * len(names))
    columns = [sqlite_values(column) for column in block.columns]
    query = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
    cursor.executemany(query, list(zip(*columns, strict=True)))


def sqlite_values(column: pa.Array) -> list[Any]:
    """Return the column's values, decimals and instants as the text that Django writes: SQLite's adapters take neither."""
    if pa.types.is_decimal(column.type) or pa.types.is_date(column.type):
        return [None if value is None else str(value) for value in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        return [None if value is None else str(value.replace(tzinfo=None)) for value in column.to_pylist()]
    return list(column.to_pylist())


def copy_values(cursor: Any, table: str, block: pa.RecordBatch) -> None:
    """Let psycopg escape each value. CSV will not do: up to version 17 PostgreSQL takes a line of `\\.` inside quotes for the end."""
    columns = [column.to_pylist() for column in block.columns]
    with cursor.copy(f"COPY {table} ({', '.join(block.schema.names)}) FROM STDIN") as stream:
        for row in zip(*columns, strict=True):
            stream.write_row(row)


def copy_binary(cursor: Any, table: str, names: list[str], pieces: Pieces) -> None:
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT binary)") as stream:
        for piece in pieces:
            stream.write(piece)


def create_stage(cursor: Any, stage: str, table: str, columns: list[str]) -> None:
    """Create an empty temporary table with these columns of `table`. A permanent one of this name is another's, and stays."""
    cursor.execute(f"DROP TABLE IF EXISTS {TEMPORARY_SCHEMA[cursor.db.vendor]}.{stage}")
    cursor.execute(f"CREATE TEMPORARY TABLE {stage} AS SELECT {', '.join(columns)} FROM {table} WHERE 1 = 0")


def analyze(cursor: Any, table: str, *columns: str) -> None:
    """Analyze the table, of it only `columns` where given. Autovacuum skips temporary tables, and the planner would assume 1000 rows."""
    if cursor.db.vendor == "postgresql":
        cursor.execute(f"ANALYZE {table}" + (f" ({', '.join(columns)})" if columns else ""))
