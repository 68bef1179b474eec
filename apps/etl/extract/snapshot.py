"""A consistent, read-only snapshot of one source, and its values as the source spells them.

MySQL and MariaDB: integers arrive as integers, amounts as whole kopiykas (both exact, the preflight lets no other column types pass),
everything else as the server's own bytes. SQLite keeps any value in any column, so there every value arrives as its text's bytes.
"""

import gc
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import MySQLdb.cursors
from django.conf import settings
from django.db import connections
from MySQLdb.constants import FIELD_TYPE

from apps.etl.declarations import Column, Kind, Source
from apps.etl.extract.brake import take_place
from apps.etl.hashing import hash_values
from apps.etl.interrupts import interruptible, kill_query
from apps.etl.replicas import catch_up, read_alias
from apps.etl.slices import EVERYTHING, NO_ID, SEGMENT, Bounds, Slices, within
from apps.etl.tables import SNAPSHOT_ORDER
from techmarket.diagnosis import diagnosed
from techmarket.errors import Misconfigured
from techmarket.sessions import open_mysql

if TYPE_CHECKING:
    import pyarrow as pa

    from apps.etl.sums import Sums

# 10 000 rows of seven columns are about 4 MB of Python objects, twice for a moment. With 50 000 an extract took 195 MB at its peak, and
# with 10 000 174.
ROWS_PER_FETCH = 10_000
EXACT_KINDS = {Kind.INTEGER, Kind.FLAG, Kind.MONEY}
# A row's fingerprint is the CRC-32 of the columns read, plus this: a sum of fingerprints tells the number of rows, too.
ONE_ROW = 2**32
FINGERPRINT = "fingerprint"  # the column of the rows that are read with theirs

Rows = Sequence[tuple[Any, ...]]


class Snapshot(Protocol):
    alias: str
    vendor: str
    clock: datetime  # the source's own, aware, taken inside the snapshot

    def read(self, source: Source, condition: str = "", parameters: Sequence[Any] = (), fingerprint: bool = False) -> "pa.Table": ...

    def read_integers(self, query: str, parameters: Sequence[Any] = ()) -> list[int]: ...

    def read_numbers(self, columns: Sequence[str], rest: str, parameters: Sequence[Any] = ()) -> list[Any]: ...

    def read_id_range(self, source: Source, condition: str) -> tuple[int, int, int]: ...

    def read_nth_id(self, source: Source, bounds: Bounds, number: int) -> int | None: ...

    def read_fingerprint(self, source: Source, condition: str = "") -> str: ...

    def read_fingerprints(self, source: Source, slices: Slices) -> list[str]: ...

    def sum_fingerprints(self, source: Source, by_segment: bool, condition: str = "") -> "Sums": ...

    def slice_id(self, source: Source) -> str: ...

    def within(self, source: Source, bounds: Bounds) -> str: ...

    def among(self, source: Source, ids: Iterable[int]) -> str: ...


class SqlSnapshot:
    """Run queries, and build columns once for every ROWS_PER_FETCH rows.

    It is opened first and begun later: whoever needs several has a place at every source before the first snapshot is taken.
    """

    vendor: str
    placeholder: str  # of the driver
    integer: str  # the type of whole numbers in CAST
    divide: str  # one by another, towards zero

    def __init__(self, alias: str, connection: Any):
        self.alias = alias
        self.connection = connection
        self.clock = datetime.now(UTC)  # of a file, which has the clock of its processes; a server is asked

    def begin(self) -> Self:
        """Take the snapshot, and the clock in it."""
        raise NotImplementedError

    def select_list(self, source: Source, fingerprint: bool) -> str:
        raise NotImplementedError

    def to_columns(self, rows: Rows, source: Source, fingerprint: bool) -> "pa.Table":
        """Turn fetched rows of `select_list` into columns."""
        raise NotImplementedError

    def fingerprint(self, source: Source) -> str:
        """Return SQL for the CRC-32 of a row: of all columns that are read, in such a form that no two contents look alike.

        It is the CRC-32 of the digits of another, since sums are compared. CRC-32 by itself is linear: where two rows exchange a digit, one
        sum in 7 000 stays as it is.
        """
        raise NotImplementedError

    def slice_id(self, source: Source) -> str:
        """Return SQL for the id by which a row is sliced; NO_ID where it names none."""
        raise NotImplementedError

    def names_no_id(self, source: Source) -> str:
        """Return SQL that is true for rows whose `slice_id` is NO_ID."""
        raise NotImplementedError

    def within(self, source: Source, bounds: Bounds) -> str:
        """Return SQL for the rows of a slice. Those that name no id belong to the first."""
        inside = " AND ".join(within(source.sliced_by, bounds))
        if bounds == EVERYTHING or source.sliced_by == "id":
            return inside
        if bounds[0] is None:
            return f"({inside} OR {self.names_no_id(source)})"
        return f"{inside} AND NOT {self.names_no_id(source)}"

    def among(self, source: Source, ids: Iterable[int]) -> str:
        """Return SQL for the rows of these ids, NO_ID among them."""
        ids = list(ids)
        named = f"{source.sliced_by} IN ({', '.join(str(each) for each in ids if each != NO_ID) or 'NULL'})"
        return f"({named} OR {self.names_no_id(source)})" if NO_ID in ids and source.sliced_by != "id" else named

    def read(self, source: Source, condition: str = "", parameters: Sequence[Any] = (), fingerprint: bool = False) -> "pa.Table":
        """Return the rows of `source` that meet `condition`, SQL with a ? for each parameter; with their fingerprints, where wanted."""
        from apps.etl.extract.columns import join

        query = f"SELECT {self.select_list(source, fingerprint)} FROM {source.table}{where(source, condition)}"
        with diagnosed(self.alias), without_garbage_collection():
            blocks = (self.to_columns(rows, source, fingerprint) for rows in self.fetch(query, parameters))
            return join([self.to_columns([], source, fingerprint), *blocks])

    def read_fingerprint(self, source: Source, condition: str = "") -> str:
        """Return a text that changes if a row that meets `condition` is inserted, deleted or changed in a column that is read."""
        query = f"SELECT COUNT(*), COALESCE(SUM({self.fingerprint(source)}), 0) FROM {source.table}{where(source, condition)}"
        with diagnosed(self.alias):
            ((rows, total),) = next(self.fetch(query, ()))
        return spell_fingerprint(source, rows, total)

    def read_fingerprints(self, source: Source, slices: Slices) -> list[str]:
        """Return the same of each of adjacent slices, in one pass: where `sliced_by` has no index, each slice alone reads the whole table.

        For 100 000 accounts in five slices that were 150 ms, and are 35.
        """
        if slices == (EVERYTHING,):
            return [self.read_fingerprint(source)]
        number = " + ".join(f"({source.sliced_by} >= {low})" for low, _ in slices[1:])
        query = f"SELECT {number}, COUNT(*), SUM({self.fingerprint(source)}) FROM {source.table}{where(source, '')} GROUP BY 1"
        with diagnosed(self.alias):
            found = {number: (rows, total) for rows_fetched in self.fetch(query, ()) for number, rows, total in rows_fetched}
        return [spell_fingerprint(source, *found.get(number, (0, 0))) for number in range(len(slices))]

    def sum_fingerprints(self, source: Source, by_segment: bool, condition: str = "") -> "Sums":
        """Return the sums of the rows' fingerprints by the id by which they are sliced, or by its segment."""
        from apps.etl.extract.columns import rows_to_sums

        key = f"{self.slice_id(source)} {self.divide} {SEGMENT}" if by_segment else self.slice_id(source)
        total = f"CAST(SUM({self.fingerprint(source)} + {ONE_ROW}) AS {self.integer})"
        query = f"SELECT {key}, {total} FROM {source.table}{where(source, condition)} GROUP BY 1"
        with diagnosed(self.alias), without_garbage_collection():
            return rows_to_sums(self.fetch(query, ()))

    def read_integers(self, query: str, parameters: Sequence[Any] = ()) -> list[int]:
        """Return the first column of a query that yields whole numbers, without NULLs."""
        with diagnosed(self.alias):
            return [int(row[0]) for rows in self.fetch(query, parameters) for row in rows if row[0] is not None]

    def read_numbers(self, columns: Sequence[str], rest: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return int64 arrays of the columns, SQL for whole numbers that are never NULL, of a query that continues with `rest`."""
        raise NotImplementedError

    def read_id_range(self, source: Source, condition: str) -> tuple[int, int, int]:
        """Return the smallest and the largest id of the rows that meet `condition`, and the number of these rows."""
        query = f"SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0), COUNT(*) FROM {source.table} WHERE {condition}"
        with diagnosed(self.alias):
            (row,) = next(self.fetch(query, ()))
        return int(row[0]), int(row[1]), int(row[2])

    def read_nth_id(self, source: Source, bounds: Bounds, number: int) -> int | None:
        """Return the id by which the row after the first `number` of a slice is sliced, in their order; None where it has no more rows.

        Rows that name no id are not counted.
        """
        column = source.sliced_by
        named = [] if column == "id" else [f"NOT {self.names_no_id(source)}"]
        condition = " AND ".join([*within(column, bounds), *named]) or "1 = 1"
        query = f"SELECT {column} FROM {source.table} WHERE {condition} ORDER BY {column} LIMIT 1 OFFSET {number}"
        return next(iter(self.read_integers(query)), None)

    def fetch(self, query: str, parameters: Sequence[Any]) -> Iterator[Rows]:
        cursor = self.connection.cursor()
        cursor.execute(query.replace("?", self.placeholder), parameters)
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield rows
        cursor.close()


class MySQLSnapshot(SqlSnapshot):
    vendor = "mysql"
    placeholder = "%s"
    integer, divide = "SIGNED", "DIV"
    as_integers = dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG), int)

    @classmethod
    @contextmanager
    def opened(cls, source: str, wait: bool = True) -> Iterator["MySQLSnapshot"]:
        """Open a session with a source, or with its replica, and wait for a place there. Raises NoPlace where it should not wait."""
        alias = read_alias(source)
        connection = open_mysql(alias, conv=dict(cls.as_integers), use_unicode=False, cursorclass=MySQLdb.cursors.SSCursor)
        try:
            with interruptible(partial(kill_query, alias, connection.thread_id())):
                take_place(connection, alias, wait)
                yield cls(alias, connection, source)
        finally:
            # Neither commit nor close the cursor: both would first read an unread stream to its end.
            connection.close()

    def __init__(self, alias: str, connection: Any, source: str):
        super().__init__(alias, connection)
        self.source = source  # whose replica `alias` may be

    def begin(self) -> Self:
        with diagnosed(self.alias):
            source_clock = self.catch_up() if self.alias != self.source else None
            self.command("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.command("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            level = self.command("SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')")[0][1]
            if level != b"REPEATABLE-READ":  # under any other level MySQL ignores CONSISTENT SNAPSHOT without an error
                raise Misconfigured(f"{self.alias}: isolation level is {level.decode()} where REPEATABLE-READ was set.")
            clock = self.command("SELECT UTC_TIMESTAMP(6)")[0][0]
            self.clock = source_clock or datetime.fromisoformat(clock.decode()).replace(tzinfo=UTC)
        return self

    def catch_up(self) -> datetime:
        """Wait for the replica, and return its source's clock: a replica's own may differ from that which dates the rows."""
        cursor = self.connection.cursor()
        clock, _ = catch_up(self.source, cursor)
        cursor.close()
        return clock

    def command(self, statement: str) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall()
        cursor.close()
        return rows

    def select_list(self, source: Source, fingerprint: bool) -> str:
        """Select the exact columns as one text, since every separate value becomes a Python object: 1.0 instead of 2.8 s of CPU time for
        2.5 million lines."""
        exact = [f"COALESCE({exact_integer(column)}, '')" for column in exact_columns(source)]
        exact += [self.fingerprint(source)] if fingerprint else []
        return ", ".join([f"CONCAT_WS(',', {', '.join(exact)})", *(column.name for column in other_columns(source))])

    def to_columns(self, rows: Rows, source: Source, fingerprint: bool) -> "pa.Table":
        from apps.etl.extract.columns import lines_to_columns

        exact, others = ([column.name for column in columns] for columns in (exact_columns(source), other_columns(source)))
        exact += [FINGERPRINT] if fingerprint else []
        return lines_to_columns(rows, exact, others, column_names(source, fingerprint))

    def read_numbers(self, columns: Sequence[str], rest: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Fetch one text per row, as `read` does."""
        from apps.etl.extract.columns import lines_to_numbers

        query = f"SELECT CONCAT_WS(',', {', '.join(columns)}) {rest}"
        with diagnosed(self.alias), without_garbage_collection():
            return lines_to_numbers(self.fetch(query, parameters), len(columns))

    def fingerprint(self, source: Source) -> str:
        """Numbers and instants have no comma; a text is represented by its own CRC-32, in its own character set."""
        return f"CRC32(CRC32(CONCAT_WS(',', {', '.join(map(unambiguous, source.columns))})))"

    def slice_id(self, source: Source) -> str:
        return f"COALESCE({source.sliced_by}, {NO_ID})"

    def names_no_id(self, source: Source) -> str:
        return f"{source.sliced_by} IS NULL"


class SQLiteSnapshot(SqlSnapshot):
    vendor = "sqlite"
    placeholder = "?"
    integer, divide = "INTEGER", "/"

    @classmethod
    @contextmanager
    def opened(cls, alias: str, wait: bool = True) -> Iterator["SQLiteSnapshot"]:
        address = Path(connections[alias].settings_dict["NAME"]).absolute().as_uri()  # a path may have a # or a ?
        with diagnosed(alias):
            connection = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            with interruptible(connection.interrupt):
                yield cls(alias, connection)
        finally:
            connection.close()

    def __init__(self, alias: str, connection: Any):
        super().__init__(alias, connection)
        connection.text_factory = bytes
        connection.create_function("crc32", -1, hash_values, deterministic=True)

    def begin(self) -> Self:
        with diagnosed(self.alias):
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # the first read takes the snapshot
        self.clock = datetime.now(UTC)
        return self

    def select_list(self, source: Source, fingerprint: bool) -> str:
        columns = [f"CAST({column.name} AS TEXT)" for column in source.columns]
        return ", ".join(columns + ([self.fingerprint(source)] if fingerprint else []))

    def to_columns(self, rows: Rows, source: Source, fingerprint: bool) -> "pa.Table":
        from apps.etl.extract.columns import values_to_columns

        return values_to_columns(rows, column_names(source, fingerprint), [FINGERPRINT])

    def read_numbers(self, columns: Sequence[str], rest: str, parameters: Sequence[Any] = ()) -> list[Any]:
        from apps.etl.extract.columns import values_to_numbers

        with diagnosed(self.alias):
            return values_to_numbers(self.fetch(f"SELECT {', '.join(columns)} {rest}", parameters), len(columns))

    def fingerprint(self, source: Source) -> str:
        return f"crc32({', '.join(f'CAST({column.name} AS BLOB)' for column in source.columns)})"

    def slice_id(self, source: Source) -> str:
        return f"CASE WHEN {self.names_no_id(source)} THEN {NO_ID} ELSE {source.sliced_by} END"

    def names_no_id(self, source: Source) -> str:
        return f"typeof({source.sliced_by}) <> 'integer'"


def open_session(alias: str, wait: bool = True) -> AbstractContextManager[SqlSnapshot]:
    """Open a source for a snapshot that has not begun yet; an SQLite file has no brake and no replica."""
    kind = SQLiteSnapshot if settings.DATABASES[alias]["ENGINE"].endswith("sqlite3") else MySQLSnapshot
    return kind.opened(alias, wait)


@contextmanager
def open_snapshot(alias: str) -> Iterator[Snapshot]:
    with open_session(alias) as session:
        yield session.begin()


@contextmanager
def open_snapshots(sources: Iterable[Source], wait: bool = True) -> Iterator[Mapping[str, Snapshot]]:
    """Take a snapshot of each database of `sources`, children before parents, and keep all of them open.

    Raises NoPlace where a source has no place for another one and `wait` is false: whoever holds a place at it already must not wait.
    """
    with ExitStack() as stack:
        aliases = sorted({source.alias for source in sources}, key=SNAPSHOT_ORDER.index)
        sessions = {alias: stack.enter_context(open_session(alias, wait)) for alias in aliases}
        yield {alias: session.begin() for alias, session in sessions.items()}


def exact_columns(source: Source) -> list[Column]:
    return [column for column in source.columns if column.kind in EXACT_KINDS]


def other_columns(source: Source) -> list[Column]:
    return [column for column in source.columns if column.kind not in EXACT_KINDS]


def exact_integer(column: Column) -> str:
    if column.kind is Kind.MONEY:
        return f"CAST({column.name} * 100 AS SIGNED)"
    return f"{column.name} + 0" if column.kind is Kind.FLAG else column.name  # a BIT is a text of bytes, until it is added to


def unambiguous(column: Column) -> str:
    """Return SQL for a text without a comma, another one for every value, and an empty one for NULL alone."""
    return f"COALESCE({f'CRC32({column.name})' if column.kind is Kind.TEXT else column.name}, '')"


def column_names(source: Source, fingerprint: bool) -> list[str]:
    return [column.name for column in source.columns] + ([FINGERPRINT] if fingerprint else [])


def spell_fingerprint(source: Source, rows: Any, total: Any) -> str:
    return f"{source.table} {int(rows)} {int(total)}"


def where(source: Source, condition: str) -> str:
    conditions = " AND ".join(f"({part})" for part in (source.where, condition) if part)
    return f" WHERE {conditions}" if conditions else ""


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
