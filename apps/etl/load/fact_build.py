"""Load an empty fact on PostgreSQL: fill and index partitions of their own while nobody sees them, then attach them all at once.

A partition holds a range of order ids, as slices do. The fact has one partition by its key, for the whole range, the root, which in turn is
partitioned by order id: so all of it can be replaced while grants, views and readers hang on the fact.
"""

from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa

from apps.etl.counts import Written
from apps.etl.declarations import Fact
from apps.etl.load.copying import analyze, copy_packed
from apps.etl.load.partition_days import conditions, day_column
from apps.etl.load.prepared import Findings, PreparedSlice, Slices
from apps.etl.load.products import departed_costs, keep_costs
from apps.etl.load.relations import PARTITIONS, add_foreign_keys, add_keys_and_indexes, create_like, find_free_name, select_from_catalog
from apps.etl.load.revenue import NewRevenue, Revenue
from apps.etl.slices import Bounds
from apps.etl.star import add_to_segments, sum_facts
from apps.etl.sums import sum_by
from apps.warehouse.partition import WHOLE_RANGE, partition_by_range
from apps.warehouse.prepared import Prepared

# With PostgreSQL's 100 as many rows of each partition would be sampled as of the whole fact before: 8 took 6.4 of 56 s of a first load on a
# slow day. Autovacuum analyzes with its own, when rows have changed.
STATISTICS_TARGET = 20


class PartitionBuild:
    """Fills one partition and makes all that the attachment asks for, so that it needs no look at the rows.

    Seven times cheaper than inserting into the indexed fact.
    """

    def __init__(self, cursor: Any, fact: Fact, run_id: int, relation: str):
        self.cursor = cursor
        self.fact = fact
        self.run_id = run_id
        self.relation = relation
        self.months = NewRevenue(fact)
        self.days: list[int] = []  # the first and the last of each slice
        create_like(cursor, fact.table, relation)

    def complete(self, rows: pa.Table) -> pa.Table:
        """Return the rows with the run's id, and remember their days and revenue."""
        days = rows[day_column(self.fact)].to_numpy()
        self.days += [int(days.min()), int(days.max())]
        if self.fact.holds_revenue:
            self.months.add(rows)
        return rows.append_column("run_id", pa.array(np.full(rows.num_rows, self.run_id)))

    def fill(self, slices: Slices) -> Generator[PreparedSlice]:
        """Copy the slices, and yield each afterwards.

        Not with FREEZE, which hides the rows from no snapshot, however old, and saved no WAL: 582 MB without it, 585 with it.
        """
        with closing(slices):
            for _bounds, prepared in slices:
                copy_packed(self.cursor, self.relation, prepared.blocks)
                yield prepared

    def finish(self, bounds: Bounds, has_members: bool) -> None:
        """Add keys, indexes and statistics. `has_members`: all that the rows refer to have rows, so that foreign keys can be valid."""
        cursor, relation, table = self.cursor, self.relation, self.fact.table
        if self.fact.has_product_columns:
            keep_costs(cursor, relation, self.fact.key, departed_costs(self.fact), "TRUE")
        add_keys_and_indexes(cursor, table, relation)
        if has_members:
            add_foreign_keys(cursor, table, relation)
        if checks := [f"ADD CHECK ({condition})" for condition in conditions(self.fact, bounds, self.days)]:
            cursor.execute(f"ALTER TABLE {relation} {', '.join(checks)}")
        cursor.execute(f"SET LOCAL default_statistics_target = {STATISTICS_TARGET}")
        analyze(cursor, relation)

    def segments(self) -> dict[int, int]:
        sums = sum_facts(self.cursor, self.fact, table=self.relation)
        return dict(zip(sums.keys.tolist(), sums.values.tolist(), strict=True))


class FactBuild:
    """Puts the prepared partitions in the place of the empty fact's."""

    def __init__(self, cursor: Any, fact: Fact, run_id: int, partitions: list[Prepared], findings: Findings):
        self.cursor = cursor
        self.fact = fact
        self.partitions = partitions
        self.findings = findings
        self.root = find_free_name(cursor, f"{fact.table}_{run_id}")
        self.written = Written(staged=findings.rows, inserted=findings.rows)

    @property
    def revenue(self) -> Revenue:
        return NewRevenue(self.fact, self.findings.months).revenue()

    def write(self) -> Written:
        """Join the partitions under one root. PostgreSQL validates the foreign keys that could not be made before, in a first load all."""
        self.cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        create_like(self.cursor, self.fact.table, self.root, partition_by_range(self.fact.sliced_by))
        add_keys_and_indexes(self.cursor, self.fact.table, self.root)
        add_foreign_keys(self.cursor, self.fact.table, self.root)
        for partition in self.partitions:
            self.cursor.execute(f"ALTER TABLE {self.root} ATTACH PARTITION {partition.relation} {range_of(partition)}")
        # Empty, until somebody detaches or drops another: then the next run finds the rows missing, and has a place for them.
        self.cursor.execute(f"CREATE TABLE {self.root}_rest PARTITION OF {self.root} DEFAULT")
        add_to_segments(self.cursor, sum_by(list(self.findings.segments), list(self.findings.segments.values())))
        return self.written

    def count_repeated(self) -> str:
        """Return a query that counts the rows whose key several partitions have: only where their keys overlap, mostly nowhere."""
        key = self.fact.key
        ends = [
            f"SELECT MIN({key}) AS low, MAX({key}) AS high, {number} AS n FROM {each.relation}"
            for number, each in enumerate(self.partitions)
        ]
        self.cursor.execute(
            f"WITH ends AS ({' UNION ALL '.join(ends)}) SELECT MIN(GREATEST(a.low, b.low)), MAX(LEAST(a.high, b.high)) "
            "FROM ends AS a JOIN ends AS b ON a.n < b.n AND a.low <= b.high AND b.low <= a.high"
        )
        low, high = self.cursor.fetchone()
        overlap = "FALSE" if low is None else f"{key} BETWEEN {low} AND {high}"
        return f"SELECT COUNT(*) - COUNT(DISTINCT {key}) FROM {self.root} WHERE {overlap}"

    @property
    def locked(self) -> list[str]:
        """The tables that nobody may read while `swap_in` is under way.

        With the old partition its foreign keys go, and their triggers on the dimensions. And a transaction that has read one of these as it
        was must not see the new fact, whose rows its snapshot may not hide: they were committed before.
        """
        return [self.fact.table, *sorted({*self.fact.dimension_keys.values()}), "etl_load"]

    def swap_in(self) -> None:
        for old in select_from_catalog(self.cursor, PARTITIONS, self.fact.table):
            self.cursor.execute(f"ALTER TABLE {self.fact.table} DETACH PARTITION {old}")
            self.cursor.execute(f"DROP TABLE {old}")
        self.cursor.execute(f"ALTER TABLE {self.fact.table} ATTACH PARTITION {self.root} {WHOLE_RANGE}")


def range_of(partition: Prepared) -> str:
    low = "MINVALUE" if partition.low is None else partition.low
    high = "MAXVALUE" if partition.high is None else partition.high
    return f"FOR VALUES FROM ({low}) TO ({high})"
