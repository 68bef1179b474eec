"""Surrogate keys by natural key: those of the dimensions' rows, and those that are reserved for rows which are not published yet."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from django.db import connections, transaction

from apps.etl.declarations import Target
from apps.etl.load.copying import copy
from apps.etl.tables import DIM_DATE, TARGETS
from apps.etl.warehouse import WAREHOUSE
from apps.warehouse.own_schema import fix_schema

RESERVED = "etl_reserved_key"
READ_PUBLISHED = "SELECT {natural}, {key} FROM {table} WHERE {key} > 0 ORDER BY {natural}"
READ_RESERVED = f"SELECT member_id, member_key FROM {RESERVED} WHERE dimension = '{{table}}' ORDER BY member_id"
LARGEST = f"""
SELECT MAX(largest) FROM (
    SELECT MAX({{key}}) AS largest FROM {{table}} UNION ALL SELECT MAX(member_key) FROM {RESERVED} WHERE dimension = '{{table}}'
) AS keys
"""
DELETE_PUBLISHED = f"""
DELETE FROM {RESERVED} WHERE dimension = '{{table}}' AND EXISTS (SELECT 1 FROM {{table}} WHERE {{table}}.{{natural}} = {RESERVED}.member_id)
"""


class Keys:
    """The keys of one dimension in memory, since a load looks up millions: 16 bytes and a flag per member, 1.7 MB for 100 000 customers.

    `expected` tells which members have a row, or will have one when the run is published; for the others one has to be inferred.
    """

    def __init__(self, published: Iterable[tuple[int, int]]):
        """`published`: pairs of natural and surrogate key of the dimension's rows, in the order of the natural keys."""
        self.naturals, self.keys = to_arrays(published)
        self.expected = np.ones(len(self.naturals), dtype=bool)
        self.has_reserved = False

    def add(self, reserved: Iterable[tuple[int, int]]) -> None:
        """Add pairs of natural and surrogate key without a row. Those that are known already are left out."""
        naturals, keys = to_arrays(reserved)
        new = ~self.has(naturals)
        self.has_reserved |= bool(new.any())
        naturals, keys = naturals[new], keys[new]
        merged = np.concatenate([self.naturals, naturals])
        order = np.argsort(merged, kind="stable")
        self.naturals, self.keys = merged[order], np.concatenate([self.keys, keys])[order]
        self.expected = np.concatenate([self.expected, np.zeros(len(naturals), dtype=bool)])[order]

    def expect(self, naturals: Any) -> None:
        """Record that these members, which all have keys, get rows when the run is published."""
        self.expected[np.searchsorted(self.naturals, naturals)] = True

    def without_key(self, naturals: Any) -> Any:
        """Return those of the natural keys that have no key, ascending, each once."""
        return np.unique(naturals[~self.has(naturals)])

    def unexpected(self, naturals: Any) -> Any:
        """Return those of the natural keys, which all have keys, that have no row and get none: ascending, each once."""
        return np.unique(naturals[~self.expected[np.searchsorted(self.naturals, naturals)]])

    def has(self, naturals: Any) -> Any:
        if not len(self.naturals):
            return np.zeros(len(naturals), dtype=bool)
        at = np.searchsorted(self.naturals, naturals).clip(max=len(self.naturals) - 1)
        return self.naturals[at] == naturals

    def of(self, naturals: Any) -> Any:
        """Return the surrogate keys of natural keys that all have one."""
        return self.keys[np.searchsorted(self.naturals, naturals)]


class DimensionKeys:
    """The keys of all dimensions, each read when it is first needed: most runs need few."""

    def __init__(self, cursor: Any):
        self.cursor = cursor
        self.by_table: dict[str, Keys] = {}

    def of(self, table: str) -> Keys:
        if table not in self.by_table:
            target = TARGETS[table]
            self.cursor.execute(READ_PUBLISHED.format(table=table, key=target.key, natural=target.natural))
            keys = Keys(self.cursor)
            self.cursor.execute(READ_RESERVED.format(table=table))
            keys.add(self.cursor)
            self.by_table[table] = keys
        return self.by_table[table]

    def read(self, tables: Iterable[str]) -> None:
        """Read the keys of these dimensions now: a thread that looks keys up must not share this connection."""
        for table in set(tables) - {DIM_DATE.table}:
            self.of(table)

    @property
    def has_reserved(self) -> bool:
        """Whether some key that was looked up or given belongs to a member whose row is not published yet."""
        return any(keys.has_reserved for keys in self.by_table.values())

    def expect(self, table: str, naturals: Any) -> None:
        """Give keys to members that the run is going to publish."""
        self.give(table, naturals)
        self.of(table).expect(naturals)

    def give(self, table: str, naturals: Any) -> None:
        """Give keys to those of the natural keys that have none."""
        new = self.of(table).without_key(naturals)
        if len(new):
            self.of(table).add(reserve(TARGETS[table], new))

    def look_up(self, target: Target, clean: pa.Table) -> tuple[dict[str, pa.Array], dict[str, set[int]]]:
        """Return the surrogate keys that `target` refers to by column, and by dimension the natural keys of members to infer."""
        found: dict[str, pa.Array] = {}
        inferred: dict[str, set[int]] = {}
        for reference in target.references:
            if reference.dimension == DIM_DATE.table:
                found[reference.key] = pa.array(date_keys(clean[reference.natural]))
                continue
            column = clean[reference.natural].cast(pa.int64())
            found[reference.key], members = self.look_up_column(reference.dimension, column, reference.empty)
            inferred[reference.dimension] = set(members)
        return found, inferred

    def look_up_column(self, table: str, column: pa.ChunkedArray, empty: int) -> tuple[pa.Array, list[int]]:
        """Return the keys of a column of natural keys, `empty` where it is empty, and the members to infer."""
        present = column.is_valid().to_numpy()
        naturals = column.fill_null(0).to_numpy()[present]
        self.give(table, naturals)
        keys = self.of(table)
        found = np.full(len(column), empty, dtype=np.int64)
        found[present] = keys.of(naturals)
        return pa.array(found), keys.unexpected(naturals).tolist()


def reserve(target: Target, naturals: Any) -> list[tuple[int, int]]:
    """Reserve keys for members without a row, or take those that another worker has reserved meanwhile. Return pairs, in their order.

    A transaction of its own where none is open on this thread's connection: no worker waits for the long one of another. A key is given
    once and never to another member; those that a failed run has reserved are taken by the next run that needs them.
    """
    with transaction.atomic(using=WAREHOUSE), connections[WAREHOUSE].cursor() as cursor:
        fix_schema(cursor)
        if cursor.db.vendor == "postgresql":
            cursor.execute(f"LOCK TABLE {RESERVED} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(READ_RESERVED.format(table=target.table))
        present = Keys(cursor)
        new = naturals[~present.has(naturals)]
        cursor.execute(LARGEST.format(table=target.table, key=target.key))
        following = max(cursor.fetchone()[0] or 0, 0) + 1
        keys = np.arange(following, following + len(new), dtype=np.int64)
        names = pa.array([target.table] * len(new), pa.string())
        copy(cursor, RESERVED, pa.table({"dimension": names, "member_id": pa.array(new), "member_key": pa.array(keys)}))
        present.add(zip(new.tolist(), keys.tolist(), strict=True))
    return list(zip(naturals.tolist(), present.of(naturals).tolist(), strict=True))


def release_published(cursor: Any, target: Target) -> None:
    """Delete the reservations of members that have rows now."""
    cursor.execute(DELETE_PUBLISHED.format(table=target.table, natural=target.natural))


def to_arrays(pairs: Iterable[tuple[int, int]]) -> tuple[Any, Any]:
    columns = np.fromiter(chain.from_iterable(pairs), dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def date_keys(dates: pa.ChunkedArray) -> Any:
    """Return each date as YYYYMMDD."""
    days = dates.to_numpy().astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    year, month = months.astype("datetime64[Y]").astype(int) + 1970, months.astype(int) % 12 + 1
    return (year * 10_000 + month * 100 + (days - months).astype(int) + 1).astype(np.int64)
