"""A consistent, read-only snapshot of one source, and its values as the source spells them.

MySQL and MariaDB: integers arrive as integers, DECIMAL(12,2) as whole kopiykas (both exact, the column's type allows nothing else),
everything else as the server's own bytes. SQLite keeps any value in any column, so there every value arrives as its text's bytes.
"""

import gc
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import MySQLdb
import MySQLdb.cursors
import pyarrow as pa
import pyarrow.csv as csv
from django.conf import settings
from django.db import connections
from MySQLdb.constants import FIELD_TYPE

from apps.etl.declarations import Column, Kind, Source
from apps.etl.interrupts import interruptible, kill_query
from apps.etl.tables import SNAPSHOT_ORDER
from techmarket.diagnosis import diagnosed
from techmarket.errors import Misconfigured

# 50 000 rows of seven columns are about 20 MB of Python objects for a moment.
ROWS_PER_FETCH = 50_000
EXACT_KINDS = {Kind.INTEGER, Kind.FLAG, Kind.MONEY}
# Arrow's CSV reader catches SIGINT and SIGTERM itself, and loses 2 to 5 of 100 that arrive while it reads a small block.
pa.enable_signal_handlers(False)

Rows = Sequence[tuple[Any, ...]]


class Snapshot(Protocol):
    alias: str
    clock: datetime  # the source's own, aware, taken inside the snapshot

    def read(self, source: Source, condition: str = "", parameters: Sequence[Any] = ()) -> pa.Table: ...

    def read_integers(self, query: str, parameters: Sequence[Any] = ()) -> list[int]: ...

    def read_id_range(self, source: Source, condition: str) -> tuple[int, int, int]: ...

    def read_fingerprint(self, source: Source, condition: str = "") -> str: ...


class SqlSnapshot:
    """Run queries, and build columns once for every ROWS_PER_FETCH rows."""

    placeholder: str  # of the driver

    def __init__(self, alias: str, connection: Any):
        self.alias = alias
        self.connection = connection
        self.clock = datetime.now(UTC)

    def select_list(self, source: Source) -> str:
        raise NotImplementedError

    def to_columns(self, rows: Rows, source: Source) -> pa.Table:
        """Turn fetched rows of `select_list` into columns."""
        raise NotImplementedError

    def read_fingerprint(self, source: Source, condition: str = "") -> str:
        """Return a text that changes if a row that meets `condition` is inserted, deleted or updated; empty where it costs too much."""
        raise NotImplementedError

    def read(self, source: Source, condition: str = "", parameters: Sequence[Any] = ()) -> pa.Table:
        """Return the rows of `source` that meet `condition`, SQL with a ? for each parameter."""
        where = " AND ".join(f"({part})" for part in (source.where, condition) if part)
        query = f"SELECT {self.select_list(source)} FROM {source.table}" + (f" WHERE {where}" if where else "")
        with diagnosed(self.alias), without_garbage_collection():
            return pa.concat_tables(
                [self.to_columns([], source), *(self.to_columns(rows, source) for rows in self.fetch(query, parameters))]
            )

    def read_integers(self, query: str, parameters: Sequence[Any] = ()) -> list[int]:
        """Return the first column of a query that yields whole numbers, without NULLs."""
        with diagnosed(self.alias):
            return [int(row[0]) for rows in self.fetch(query, parameters) for row in rows if row[0] is not None]

    def read_id_range(self, source: Source, condition: str) -> tuple[int, int, int]:
        """Return the smallest and the largest id of the rows that meet `condition`, and the number of these rows."""
        query = f"SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0), COUNT(*) FROM {source.table} WHERE {condition}"
        with diagnosed(self.alias):
            (row,) = next(self.fetch(query, ()))
        return int(row[0]), int(row[1]), int(row[2])

    def fetch(self, query: str, parameters: Sequence[Any]) -> Iterator[Rows]:
        cursor = self.connection.cursor()
        cursor.execute(query.replace("?", self.placeholder), parameters)
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield rows
        cursor.close()


class MySQLSnapshot(SqlSnapshot):
    placeholder = "%s"
    as_integers = dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG), int)

    @classmethod
    @contextmanager
    def opened(cls, alias: str) -> Iterator["MySQLSnapshot"]:
        with diagnosed(alias):
            parameters = connections[alias].get_connection_params() | {
                "conv": dict(cls.as_integers),
                "use_unicode": False,
                "cursorclass": MySQLdb.cursors.SSCursor,
            }
            connection = MySQLdb.connect(**parameters)
        try:
            with interruptible(partial(kill_query, alias, connection.thread_id())):
                yield cls(alias, connection)
        finally:
            # Neither commit nor close the cursor: both would first read an unread stream to its end.
            connection.close()

    def __init__(self, alias: str, connection: Any):
        super().__init__(alias, connection)
        with diagnosed(alias):
            self.command("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.command("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            level = self.command("SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')")[0][1]
            if level != b"REPEATABLE-READ":  # under any other level MySQL ignores CONSISTENT SNAPSHOT without an error
                raise Misconfigured(f"{alias}: isolation level is {level.decode()} where REPEATABLE-READ was set.")
            clock = self.command("SELECT UTC_TIMESTAMP(6)")[0][0]
            self.clock = datetime.fromisoformat(clock.decode()).replace(tzinfo=UTC)

    def command(self, statement: str) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall()
        cursor.close()
        return rows

    def select_list(self, source: Source) -> str:
        """Select the exact columns as one text, since every separate value becomes a Python object: 1.0 instead of 2.8 s of CPU time for
        2.5 million lines."""
        exact = [f"COALESCE({exact_integer(column)}, '')" for column in exact_columns(source)]
        return ", ".join([f"CONCAT_WS(',', {', '.join(exact)})", *(column.name for column in other_columns(source))])

    def to_columns(self, rows: Rows, source: Source) -> pa.Table:
        exact, others = exact_columns(source), other_columns(source)
        first, *rest = zip(*rows, strict=True) if rows else [()] * (1 + len(others))
        columns = dict(zip((column.name for column in exact), parse_integers(first, exact), strict=True))
        columns |= {column.name: pa.array(values, pa.binary()) for column, values in zip(others, rest, strict=True)}
        return pa.table({column.name: columns[column.name] for column in source.columns})

    def read_fingerprint(self, source: Source, condition: str = "") -> str:
        """Sum checksums of id and updated_at: 26 ms for 100 000 customers, which take 160 ms to read."""
        query = f"SELECT COUNT(*), COALESCE(SUM(CRC32(CONCAT(id, ' ', updated_at))), 0) FROM {source.table}"
        query += f" WHERE {condition}" if condition else ""
        with diagnosed(self.alias):
            ((rows, total),) = next(self.fetch(query, ()))
        return f"{source.table} {rows} {int(total)}"


class SQLiteSnapshot(SqlSnapshot):
    placeholder = "?"

    @classmethod
    @contextmanager
    def opened(cls, alias: str) -> Iterator["SQLiteSnapshot"]:
        path = connections[alias].settings_dict["NAME"]
        with diagnosed(alias):
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30, isolation_level=None)
        try:
            with interruptible(connection.interrupt):
                yield cls(alias, connection)
        finally:
            connection.close()

    def __init__(self, alias: str, connection: Any):
        super().__init__(alias, connection)
        connection.text_factory = bytes
        with diagnosed(alias):
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # the first read takes the snapshot
        self.clock = datetime.now(UTC)

    def select_list(self, source: Source) -> str:
        return ", ".join(f"CAST({column.name} AS TEXT)" for column in source.columns)

    def to_columns(self, rows: Rows, source: Source) -> pa.Table:
        columns = zip(*rows, strict=True) if rows else [()] * len(source.columns)
        return pa.table({column.name: pa.array(values, pa.binary()) for column, values in zip(source.columns, columns, strict=True)})

    def read_fingerprint(self, source: Source, condition: str = "") -> str:
        """Return nothing: a fingerprint would cost as much as reading the table."""
        return ""


def open_snapshot(alias: str) -> AbstractContextManager[Snapshot]:
    kind = SQLiteSnapshot if settings.DATABASES[alias]["ENGINE"].endswith("sqlite3") else MySQLSnapshot
    return kind.opened(alias)


@contextmanager
def open_snapshots(sources: Iterable[Source]) -> Iterator[Mapping[str, Snapshot]]:
    """Open a snapshot of each database of `sources`, children before parents, and keep all of them open."""
    with ExitStack() as stack:
        aliases = sorted({source.alias for source in sources}, key=SNAPSHOT_ORDER.index)
        yield {alias: stack.enter_context(open_snapshot(alias)) for alias in aliases}


def exact_columns(source: Source) -> list[Column]:
    return [column for column in source.columns if column.kind in EXACT_KINDS]


def other_columns(source: Source) -> list[Column]:
    return [column for column in source.columns if column.kind not in EXACT_KINDS]


def exact_integer(column: Column) -> str:
    return f"CAST({column.name} * 100 AS SIGNED)" if column.kind is Kind.MONEY else column.name


def parse_integers(lines: Sequence[bytes], columns: Sequence[Column]) -> Sequence[pa.Array]:
    """Parse lines of comma-separated whole numbers, empty for NULL, into columns of int64."""
    if not lines:
        return [pa.array([], pa.int64()) for _ in columns]
    names = [column.name for column in columns]
    table = csv.read_csv(
        pa.py_buffer(b"\n".join(lines)),
        csv.ReadOptions(column_names=names, use_threads=False),
        csv.ParseOptions(quote_char=False),
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.int64()), null_values=[""]),
    )
    return [column.combine_chunks() for column in table.columns]


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause the cyclic collector, which walks millions of tuples without a cycle: 4 to 43 % of the reading's CPU time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
