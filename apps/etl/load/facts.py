"""Clean batches of fact_sales into the fact table: a table of its own where the star is empty, else a merge of what differs."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apps.etl.checks import to_the_kopiyka
from apps.etl.counts import Written
from apps.etl.extract import Bounds, within
from apps.etl.load.copying import Block, analyze, copy, copy_packed, narrowed, packed, staged_as
from apps.etl.load.dimensions import Dimensions
from apps.etl.load.merging import differs, insert_new, update_changed
from apps.etl.metadata import noted
from apps.etl.tables import FACT_SALES
from apps.warehouse.dimensions import UNKNOWN
from apps.warehouse.facts import FactSales
from apps.warehouse.partition import WHOLE_RANGE

STAGE = "stage_fact_sales"
CHANGED = "stage_changed"
STORED = "stored"  # the key that CHANGED found in the fact table
TOUCHED = "stage_touched"
# What the load adds to a clean batch: all of it comes from the product.
FROM_PRODUCT = ("category_key", "cost_amount", "margin_amount")
COLUMNS = [*FACT_SALES.columns, *FROM_PRODUCT]
# A cost stays what it was, and margin follows from it.
COMPARED = [column for column in COLUMNS if column not in ("cost_amount", "margin_amount")]

# Whoever wants a column walks the row up to it, quickly as long as nothing there is empty or of its own width: with amounts and words
# last, indexes and foreign keys took a tenth less.
COLUMNS_BY_WIDTH = """
SELECT format('%I %s', attname, format_type(atttypid, atttypmod)) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END FROM pg_attribute
WHERE attrelid = 'fact_sales'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attlen < 0, NOT attnotnull, attlen DESC, attnum
"""


@dataclass
class Prepared:
    """One slice, ready to be written; what of the dimensions must be written before it; and kopiykas, by the batch's own account."""

    blocks: list[Block] = field(default_factory=list)
    inferred: dict[str, Any] = field(default_factory=dict)  # dimension -> natural keys
    years: set[int] = field(default_factory=set)
    net: int = 0
    paid: int = 0

    @property
    def rows(self) -> int:
        return sum(block.size for block in self.blocks)


class FactLoad(Protocol):
    """Takes one slice's rows after the other, with the bounds of its order ids, then brings the fact table to them."""

    def packed(self, rows: pa.Table) -> list[Block]: ...

    def add(self, slice: Prepared, bounds: Bounds) -> None: ...

    def finish(self) -> Written: ...


class Products:
    """Category and cost by product key, as they are in the warehouse after its dimensions were loaded."""

    def __init__(self, cursor: Any):
        cursor.execute("SELECT product_key, category_key, cost FROM dim_product ORDER BY product_key")
        rows = cursor.fetchall()
        self.keys = np.array([row[0] for row in rows])
        self.categories = pa.array([row[1] for row in rows], pa.int64())
        costs = [None if row[2] is None else Decimal(str(row[2])).quantize(Decimal("0.01")) for row in rows]
        self.costs = pa.array(costs, pa.decimal128(12, 2))

    def add(self, inferred: Any) -> None:
        """Products of which nothing but the natural key is known; their keys come after all that are there."""
        self.keys = np.append(self.keys, inferred)
        self.categories = pa.concat_arrays([self.categories, pa.array([UNKNOWN] * len(inferred), pa.int64())])
        self.costs = pa.concat_arrays([self.costs, pa.nulls(len(inferred), self.costs.type)])

    def columns(self, keys: pa.Array, quantity: pa.Array, net: pa.Array) -> dict[str, pa.Array]:
        """category_key, cost_amount (cost x quantity; empty where the cost is unknown) and margin_amount of each line."""
        at = pa.array(np.searchsorted(self.keys, keys.to_numpy()))
        # Decimals all the way: a large catalog cost times a large quantity passes 2**63.
        cost = pc.multiply(self.costs.take(at), quantity.cast(pa.decimal128(19, 0))).cast(pa.decimal128(24, 2))
        return {
            "category_key": self.categories.take(at),
            "cost_amount": cost,
            "margin_amount": pc.subtract(net, cost),
        }


def inferred_keys(dimensions: Dimensions, inferred: dict[str, Any]) -> Any:
    return dimensions.keys["dim_product"].of(inferred["dim_product"])


class Facts:
    """Turns clean batches into rows of the fact table and hands them to the way of loading that fits."""

    def __init__(self, cursor: Any, run_id: int, dimensions: Dimensions, due: str):
        self.cursor = cursor
        self.run_id = run_id
        self.dimensions = dimensions
        self.products = Products(cursor)
        empty = is_empty(cursor)
        self.way: FactLoad = Build(cursor, run_id) if empty and cursor.db.vendor == "postgresql" else Merge(cursor, run_id, due)

    def prepared(self, clean: pa.Table) -> Prepared:
        """Asks no database: it may be called while another slice is being written."""
        if not clean.num_rows:
            return Prepared()
        years = self.dimensions.years_lacking(clean["date"])
        references, inferred = self.dimensions.references(FACT_SALES, clean)
        self.products.add(inferred_keys(self.dimensions, inferred))
        net = clean["net_amount"].combine_chunks()
        own = self.products.columns(references["product_key"], clean["quantity"].combine_chunks(), net)
        attributes = {name: clean[name] for name in (FACT_SALES.key, *FACT_SALES.attributes)}
        blocks = self.way.packed(narrowed(pa.table(attributes | references | own), FactSales))
        return Prepared(blocks, inferred, years, int(noted(clean, "net")), int(noted(clean, "paid")))

    def add(self, slice: Prepared, bounds: Bounds) -> None:
        self.dimensions.extend_calendar(slice.years)
        self.dimensions.infer(slice.inferred)
        self.way.add(slice, bounds)

    def finish(self) -> Written:
        written = self.way.finish()
        written.derived = self.follow_products()
        return written

    def follow_products(self) -> int:
        """Facts that were not read, of products that moved to another category or whose cost was unknown till now."""
        products = ", ".join(map(str, self.dimensions.repriced))
        if not products:
            return 0
        cost = "COALESCE(t.cost_amount, ROUND(p.cost * t.quantity, 2))"
        self.cursor.execute(
            f"UPDATE fact_sales AS t SET category_key = p.category_key, cost_amount = {cost}, "
            f"margin_amount = ROUND(t.net_amount - {cost}, 2), run_id = {self.run_id} "
            f"FROM dim_product AS p WHERE p.product_key = t.product_key AND t.product_key IN ({products}) "
            "AND (t.category_key <> p.category_key OR (t.cost_amount IS NULL AND p.cost IS NOT NULL))"
        )
        return int(self.cursor.rowcount)


# Not those that only moved to another slice's order. With NOT EXISTS instead of EXCEPT, SQLite looked through all of CHANGED for
# each row: 130 000 that vanished at once took hours.
DELETE_VANISHED = (
    f"DELETE FROM fact_sales WHERE order_item_id IN "
    f"(SELECT {STORED} FROM {CHANGED} WHERE order_item_id IS NULL EXCEPT SELECT order_item_id FROM {CHANGED})"
)


class Merge:
    """Stage a slice, compare it with what the fact table has of its orders, keep what differs; in the end write that.

    Slice by slice, because a hash of 45 000 rows stays in the processor's cache: comparing 2.25 million rows in one join took 4 s and
    330 MB of the server's memory, or spilled.
    """

    def __init__(self, cursor: Any, run_id: int, due: str):
        """`due`: SQL that says which of the fact's rows the run is to bring up to date."""
        self.cursor = cursor
        self.due = due
        self.extra = {"run_id": str(run_id)}
        self.written = Written()
        staged_as(cursor, STAGE, FACT_SALES.table, [FACT_SALES.key, *COLUMNS])
        staged_as(cursor, CHANGED, FACT_SALES.table, [FACT_SALES.key, *COLUMNS, f"{FACT_SALES.key} AS {STORED}"])

    def packed(self, rows: pa.Table) -> list[Block]:
        return packed(rows, binary=self.cursor.db.vendor == "postgresql")

    def add(self, slice: Prepared, bounds: Bounds) -> None:
        copy_packed(self.cursor, STAGE, slice.blocks)
        self.written.staged += slice.rows
        self.compare(" AND ".join([self.due, *within("order_id", bounds)]))
        self.cursor.execute(f"TRUNCATE {STAGE}" if self.cursor.db.vendor == "postgresql" else f"DELETE FROM {STAGE}")

    def compare(self, due: str) -> None:
        """Into CHANGED: staged rows that are new or differ; and, with nothing but their key in STORED, rows that are not staged."""
        own = {column: f"s.{column}" for column in (FACT_SALES.key, *COLUMNS)}
        # A line keeps the product's cost of its first load; another quantity takes that cost as often. Another product is another cost.
        cost = f"CASE WHEN {keeps_cost('t', 's')} THEN {kept_cost('t', 's')} ELSE s.cost_amount END"
        margin = f"CASE WHEN {keeps_cost('t', 's')} THEN {margin_of('t', 's')} ELSE s.margin_amount END"
        staged = ", ".join((own | {"cost_amount": cost, "margin_amount": margin}).values())
        self.cursor.execute(
            f"INSERT INTO {CHANGED} SELECT {staged}, t.{FACT_SALES.key} FROM {STAGE} AS s "
            f"FULL JOIN (SELECT * FROM fact_sales WHERE {due}) AS t ON t.{FACT_SALES.key} = s.{FACT_SALES.key} "
            f"WHERE {differs(COMPARED, 't', 's')} OR (t.cost_amount IS NULL AND s.cost_amount IS NOT NULL) "
            f"OR t.margin_amount IS DISTINCT FROM {to_the_kopiyka(self.cursor.db.vendor, 't.net_amount - t.cost_amount')}"
        )

    def finish(self) -> Written:
        analyze(self.cursor, CHANGED, FACT_SALES.key, STORED)
        self.keep_moved_costs()
        self.written.deleted = self.delete_vanished()
        self.written.updated = update_changed(self.cursor, FACT_SALES.table, CHANGED, FACT_SALES.key, COLUMNS, self.extra)
        there = f"s.{FACT_SALES.key} IS NOT NULL AND s.{STORED} IS NULL"
        self.written.inserted = insert_new(self.cursor, FACT_SALES.table, CHANGED, FACT_SALES.key, COLUMNS, self.extra, there)
        return self.written

    def keep_moved_costs(self) -> None:
        """Of lines that moved to another slice's order: there, they were not compared with themselves."""
        self.cursor.execute(
            f"UPDATE {CHANGED} SET cost_amount = {kept_cost('f', CHANGED)}, margin_amount = {margin_of('f', CHANGED)} FROM fact_sales AS f "
            f"WHERE {CHANGED}.{STORED} IS NULL AND f.order_item_id = {CHANGED}.order_item_id AND {keeps_cost('f', CHANGED)}"
        )

    def delete_vanished(self) -> int:
        self.cursor.execute(DELETE_VANISHED)
        return int(self.cursor.rowcount)


def keeps_cost(stored: str, staged: str) -> str:
    return f"{stored}.product_key = {staged}.product_key AND {stored}.cost_amount IS NOT NULL"


def kept_cost(stored: str, staged: str) -> str:
    return f"ROUND({stored}.cost_amount * 1.0 * {staged}.quantity / {stored}.quantity, 2)"


def margin_of(stored: str, staged: str) -> str:
    return f"ROUND({staged}.net_amount - {kept_cost(stored, staged)}, 2)"


class Build:
    """Fill a table of its own, then its keys and indexes, then swap it in as the partition: seven times cheaper than feeding the live one.

    Readers wait only for the swap; grants and views hang on the partitioned table and stay.
    """

    def __init__(self, cursor: Any, run_id: int):
        self.cursor = cursor
        self.run_id = run_id
        self.table = f"fact_sales_{run_id}"
        self.written = Written()
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass")
        self.old = [row[0] for row in cursor.fetchall()]
        if self.table in self.old:  # the control database was made anew and counts its runs from 1 again
            self.table += "_again"
        columns = ", ".join(self.of_parent(COLUMNS_BY_WIDTH))
        cursor.execute(f"CREATE TABLE {self.table} ({columns})")

    def packed(self, rows: pa.Table) -> list[Block]:
        return packed(rows.append_column("run_id", pa.array(np.full(rows.num_rows, self.run_id))), binary=True)

    def add(self, slice: Prepared, bounds: Bounds) -> None:
        copy_packed(self.cursor, self.table, slice.blocks, options=", FREEZE")
        self.written.staged += slice.rows
        self.written.inserted += slice.rows

    def finish(self) -> Written:
        self.cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        self.cursor.execute(f"ALTER TABLE {self.table} ADD PRIMARY KEY (order_item_id)")
        for definition in self.of_parent("SELECT indexdef FROM pg_indexes WHERE tablename = 'fact_sales' AND indexname !~ 'pkey'"):
            self.cursor.execute(f"CREATE INDEX ON {self.table} {definition[definition.index('USING') :]}")
        query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'fact_sales'::regclass AND contype = 'f'"
        for definition in self.of_parent(query):
            self.cursor.execute(f"ALTER TABLE {self.table} ADD {definition}")
        analyze(self.cursor, self.table)
        for partition in self.old:
            self.cursor.execute(f"ALTER TABLE fact_sales DETACH PARTITION {partition}")
            self.cursor.execute(f"DROP TABLE {partition}")
        self.cursor.execute(f"ALTER TABLE fact_sales ATTACH PARTITION {self.table} {WHOLE_RANGE}")
        return self.written

    def of_parent(self, query: str) -> list[str]:
        self.cursor.execute(query)
        return [row[0] for row in self.cursor.fetchall()]


def is_empty(cursor: Any) -> bool:
    cursor.execute("SELECT 1 FROM fact_sales LIMIT 1")
    return cursor.fetchone() is None


def stage_touched(cursor: Any, batches: list[pa.Table]) -> None:
    staged_as(cursor, TOUCHED, "fact_sales", ["order_id"])
    for batch in batches:
        copy(cursor, TOUCHED, batch)
    analyze(cursor, TOUCHED)
