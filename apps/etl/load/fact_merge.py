"""Bring a fact in line with its changed table: first see what that does to the revenue, then write it."""

from collections.abc import Iterable
from typing import Any

from apps.etl.counts import Written
from apps.etl.declarations import Fact
from apps.etl.load.copying import analyze
from apps.etl.load.fact_changes import OLD_HASH, FactChanges
from apps.etl.load.look_ups import few_looked_up
from apps.etl.load.merging import delete, insert_new, update_changed
from apps.etl.load.partition_days import drop_constraints, find_violated
from apps.etl.load.products import cost_columns, departed_costs, keep_costs, store_departed_costs
from apps.etl.load.revenue import Revenue, compare_revenue
from apps.etl.star import add_to_segments, hash_fact, sum_hashes


class FactMerge:
    """Writes the temporary changed table of one fact. `revenue`: what that changes."""

    def __init__(self, cursor: Any, changes: FactChanges, run_id: int, staged: int):
        self.cursor = cursor
        self.changes = changes
        self.fact: Fact = changes.fact
        self.changed = changes.table
        self.run_id = {"run_id": str(run_id)}
        self.written = Written(staged)
        self.revenue = Revenue()
        self.violated: list[tuple[str, str]] = []
        self.old_key = f"old_{self.fact.key}"
        self.vanished = f"SELECT {self.old_key} FROM {self.changed} WHERE {self.fact.key} IS NULL"

    def compare(self, rejected: Iterable[int], standing: Iterable[int]) -> None:
        """Complete the changed table and compare the revenue, without writing to the fact. `rejected`, `standing`: as `compare_revenue`."""
        analyze(self.cursor, self.changed, self.fact.key, self.old_key)
        self.join_moved()
        self.violated = find_violated(self.cursor, self.fact, self.changed)
        if self.fact.has_product_columns:
            keep_costs(self.cursor, self.changed, self.fact.key, departed_costs(self.fact), f"{self.changed}.{self.old_key} IS NULL")
        if self.fact.holds_revenue:
            self.revenue = compare_revenue(self.cursor, self.fact, self.changed, rejected, standing)

    def write(self) -> Written:
        table, key, order, columns = self.fact.table, self.fact.key, self.fact.sliced_by, self.changes.columns
        if self.fact.has_product_columns:
            store_departed_costs(self.cursor, self.fact, self.vanished)
        self.record_changes()
        self.give_up_days()
        self.written.deleted = delete(self.cursor, table, f"{key} IN ({self.vanished})")
        in_partition = f"t.{order} = s.old_{order}"  # of all partitions, only that of the order is looked at
        with few_looked_up(self.cursor, self.changed, table):
            self.written.updated = update_changed(self.cursor, table, self.changed, key, columns, self.run_id, in_partition)
        self.written.inserted = insert_new(self.cursor, table, self.changed, key, columns, self.run_id, f"s.{self.old_key} IS NULL")
        return self.written

    def give_up_days(self) -> None:
        """Drop the constraints on days that the changed rows will not meet."""
        drop_constraints(self.cursor, self.violated)
        self.violated = []

    def join_moved(self) -> None:
        """Make one row of the two of a row that moved to another slice's id: it vanished in one slice and was new in the other."""
        key, changed = self.fact.key, self.changed
        values = self.changes.old | (cost_columns("t", changed) if self.fact.has_product_columns else {})
        self.cursor.execute(
            f"UPDATE {changed} SET {', '.join(f'{column} = {value}' for column, value in values.items())} FROM {self.fact.table} AS t "
            f"WHERE t.{key} = {changed}.{key} AND {changed}.{self.old_key} IS NULL"
        )
        if self.cursor.rowcount:
            delete(self.cursor, changed, f"{key} IS NULL AND {self.old_key} IN (SELECT {key} FROM {changed})")

    def record_changes(self) -> None:
        """Add to etl_segment what the changes make of its sums."""
        order, changed, row = self.fact.sliced_by, self.changed, hash_fact(self.cursor, self.fact, "t")
        added = f"SELECT {order} AS id, {row} AS hash FROM {changed} AS t WHERE t.{self.fact.key} IS NOT NULL"
        taken = f"SELECT old_{order}, -{OLD_HASH} FROM {changed} WHERE {self.old_key} IS NOT NULL"
        add_to_segments(self.cursor, sum_hashes(self.cursor, f"{added} UNION ALL {taken}"))
