"""Load a fact that has rows: compare every staged slice with the fact table, then write what differs."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from apps.etl.counts import Written
from apps.etl.declarations import Fact
from apps.etl.load.copying import Block, analyze, copy_packed, create_stage, pack
from apps.etl.load.merging import differs, insert_new, update_changed
from apps.etl.load.prepared import PreparedSlice
from apps.etl.load.products import cost_columns, departed_costs, keep_costs, keeps_cost, store_departed_costs
from apps.etl.load.revenue import Revenue, compare_revenue, sum_months
from apps.etl.money import sql_round
from apps.etl.slices import Bounds, within
from apps.etl.star import star_recorded

STORED = "stored"  # the key that a row of the changed table has in the fact table, NULL where it is new there
# Excluded are rows that only moved to another slice's id. With NOT EXISTS instead of EXCEPT, SQLite searched the whole changed table for
# each row: 130 000 rows that vanished at once took hours.
VANISHED = f"SELECT {STORED} FROM {{changed}} WHERE {{key}} IS NULL EXCEPT SELECT {{key}} FROM {{changed}}"


class FactMerge:
    """Stage a slice, compare it with the fact's rows of its ids, collect what differs in the changed table; in the end write that.

    Slice by slice, because a hash of 45 000 rows stays in the processor's cache: comparing 2.25 million rows in one join took 4 s and
    330 MB of the server's memory, or spilled to disk.
    """

    def __init__(self, cursor: Any, fact: Fact, run_id: int, scope: str, rejected: Iterable[int], standing: Iterable[int]):
        """`scope`: SQL for the fact's rows that the run replaces. `rejected`, `standing`: as in `compare_revenue`."""
        self.cursor = cursor
        self.fact = fact
        self.scope = scope
        self.rejected, self.standing = rejected, standing
        self.stage, self.changed = f"stage_{fact.table}", f"changed_{fact.table}"
        self.columns = list(fact.columns)
        self.run_id = {"run_id": str(run_id)}
        self.written = Written()
        self.revenue = Revenue()
        create_stage(cursor, self.stage, fact.table, [fact.key, *self.columns])
        create_stage(cursor, self.changed, fact.table, [fact.key, *self.columns, f"{fact.key} AS {STORED}"])

    def pack(self, rows: pa.Table) -> list[Block]:
        return pack(rows, binary=self.cursor.db.vendor == "postgresql")

    def add(self, prepared: PreparedSlice, bounds: Bounds) -> None:
        copy_packed(self.cursor, self.stage, prepared.blocks)
        self.written.staged += prepared.rows
        self.collect_changes(" AND ".join([self.scope, *within(self.fact.sliced_by, bounds)]))
        self.cursor.execute(f"TRUNCATE {self.stage}" if self.cursor.db.vendor == "postgresql" else f"DELETE FROM {self.stage}")

    def collect_changes(self, scope: str) -> None:
        """Add to the changed table: staged rows that are new or differ; and rows that are not staged, with only STORED set."""
        key = self.fact.key
        staged = {column: f"s.{column}" for column in (key, *self.columns)}
        compared = self.columns
        conditions = []
        if self.fact.has_product_columns:
            costs = cost_columns("t", "s")
            staged |= {column: f"CASE WHEN {keeps_cost('t', 's')} THEN {value} ELSE s.{column} END" for column, value in costs.items()}
            compared = [column for column in self.columns if column not in costs]
            vendor = self.cursor.db.vendor
            conditions = [
                "(t.unit_cost IS NULL AND s.unit_cost IS NOT NULL)",
                f"t.cost_amount IS DISTINCT FROM {sql_round(vendor, 't.unit_cost * t.quantity')}",
                f"t.margin_amount IS DISTINCT FROM {sql_round(vendor, 't.net_amount - t.cost_amount')}",
            ]
        self.cursor.execute(
            f"INSERT INTO {self.changed} SELECT {', '.join(staged.values())}, t.{key} FROM {self.stage} AS s "
            f"FULL JOIN (SELECT * FROM {self.fact.table} WHERE {scope}) AS t ON t.{key} = s.{key} "
            f"WHERE {' OR '.join([differs(compared, 't', 's'), *conditions])}"
        )

    def finish(self) -> Written:
        table, key = self.fact.table, self.fact.key
        analyze(self.cursor, self.changed, key, STORED)
        if self.fact.has_product_columns:
            # Of a line that moved to another slice's id, which was not compared with itself there; and of one that returns.
            for stored in (table, departed_costs(self.fact)):
                keep_costs(self.cursor, self.changed, key, stored, f"{self.changed}.{STORED} IS NULL")
            store_departed_costs(self.cursor, self.fact, self.format(VANISHED))
        if self.fact.holds_revenue:
            self.revenue = compare_revenue(self.cursor, self.fact, self.changed, self.rejected, self.standing)
        with star_recorded(
            self.cursor, self.fact, f"{key} IN (SELECT {key} FROM {self.changed} UNION SELECT {STORED} FROM {self.changed})"
        ):
            self.written.deleted = self.delete_vanished()
            self.written.updated = update_changed(self.cursor, table, self.changed, key, self.columns, self.run_id)
            is_new = f"s.{key} IS NOT NULL AND s.{STORED} IS NULL"
            self.written.inserted = insert_new(self.cursor, table, self.changed, key, self.columns, self.run_id, is_new)
        sum_months(self.cursor, self.fact, self.revenue)
        return self.written

    def delete_vanished(self) -> int:
        self.cursor.execute(self.format(f"DELETE FROM {{fact}} WHERE {{key}} IN ({VANISHED})"))
        return int(self.cursor.rowcount)

    def format(self, query: str) -> str:
        return query.format(fact=self.fact.table, key=self.fact.key, changed=self.changed)
