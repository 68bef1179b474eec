"""The columns that a fact takes from its product: category, cost and margin; and the costs of lines that left it, for when they return."""

from collections.abc import Iterable
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apps.etl.declarations import Fact
from apps.etl.load.keys import DimensionKeys
from apps.etl.star import star_recorded
from apps.etl.tables import DIM_PRODUCT
from apps.etl.transform.rows import decimals
from apps.warehouse.dimensions import UNKNOWN

HUNDRED = pa.scalar(Decimal(100), pa.decimal128(3, 0))
NO_COST = -1  # in kopiykas; a cost is never negative
READ_PRODUCTS = f"SELECT product_key, category_key, CAST(COALESCE(ROUND(cost * 100), {NO_COST}) AS BIGINT) FROM dim_product ORDER BY 1"


class Products:
    """Category and cost by product key, as they will be in the warehouse once the run is published: 24 bytes a product."""

    def __init__(self, cursor: Any, keys: DimensionKeys, changed: Iterable[pa.Table]):
        """`changed`: clean batches of dim_product that the run is going to publish."""
        cursor.execute(READ_PRODUCTS)
        rows = np.fromiter(chain.from_iterable(cursor), dtype=np.int64).reshape(-1, 3)
        self.keys, self.categories, self.costs = (np.ascontiguousarray(column) for column in rows.T)
        for batch in changed:
            self.replace(*self.read_batch(keys, batch))

    def read_batch(self, keys: DimensionKeys, batch: pa.Table) -> tuple[Any, Any, Any]:
        naturals = batch[DIM_PRODUCT.natural].to_numpy().astype(np.int64)
        categories = keys.look_up(DIM_PRODUCT, batch)[0]["category_key"].to_numpy()
        costs = pc.multiply(batch["cost"], HUNDRED).cast(pa.int64()).fill_null(NO_COST).to_numpy()
        return keys.of(DIM_PRODUCT.table).of(naturals), categories, costs

    def replace(self, keys: Any, categories: Any, costs: Any) -> None:
        """Let the columns of these keys be so; the keys come in any order, some of them new."""
        old = ~np.isin(self.keys, keys)
        order = np.argsort(merged := np.concatenate([self.keys[old], keys]))
        self.keys = merged[order]
        self.categories = np.concatenate([self.categories[old], categories])[order]
        self.costs = np.concatenate([self.costs[old], costs])[order]

    def find(self, keys: Any) -> tuple[Any, Any]:
        """Return category and cost by key. Of an inferred product nothing is known."""
        at = np.searchsorted(self.keys, keys).clip(max=max(0, len(self.keys) - 1))
        known = self.keys[at] == keys if len(self.keys) else np.zeros(len(keys), dtype=bool)
        if not known.any():
            return np.full(len(keys), UNKNOWN), np.full(len(keys), NO_COST)
        return np.where(known, self.categories[at], UNKNOWN), np.where(known, self.costs[at], NO_COST)

    def columns(self, keys: pa.Array, quantity: pa.Array, net: pa.Array) -> dict[str, pa.Array]:
        """Return category_key, unit_cost (empty where the cost is unknown), cost_amount and margin_amount of each line."""
        categories, costs = self.find(keys.to_numpy())
        # Decimals throughout: a large catalog cost times a large quantity exceeds 2**63.
        unit_cost = decimals(costs, costs == NO_COST).cast(pa.decimal128(12, 2))
        cost = pc.multiply(unit_cost, quantity.cast(pa.decimal128(19, 0))).cast(pa.decimal128(24, 2))
        return {
            "category_key": pa.array(categories),
            "unit_cost": unit_cost,
            "cost_amount": cost,
            "margin_amount": pc.subtract(net, cost),
        }


def update_product_columns(cursor: Any, fact: Fact, product_keys: list[int], run_id: int) -> int:
    """Update facts that were not read, of products that moved to another category or whose cost became known. Returns how many."""
    if not product_keys:
        return 0
    unit_cost = "COALESCE(t.unit_cost, p.cost)"
    cost = f"ROUND({unit_cost} * t.quantity, 2)"
    of_products = f"product_key IN ({', '.join(map(str, product_keys))})"
    with star_recorded(cursor, fact, of_products):
        cursor.execute(
            f"UPDATE {fact.table} AS t SET category_key = p.category_key, unit_cost = {unit_cost}, cost_amount = {cost}, "
            f"margin_amount = ROUND(t.net_amount - {cost}, 2), run_id = {run_id} "
            f"FROM dim_product AS p WHERE p.product_key = t.product_key AND t.{of_products} "
            "AND (t.category_key <> p.category_key OR (t.unit_cost IS NULL AND p.cost IS NOT NULL))"
        )
        return int(cursor.rowcount)


def cost_columns(stored: str, staged: str) -> dict[str, str]:
    """Return SQL by column: what follows from the stored unit cost where the staged line keeps it, else what is staged.

    A line of another product has another cost.
    """
    cost = f"{stored}.unit_cost * {staged}.quantity"
    values = {
        "unit_cost": f"{stored}.unit_cost",
        "cost_amount": f"ROUND({cost}, 2)",
        "margin_amount": f"ROUND({staged}.net_amount - {cost}, 2)",
    }
    keeps = f"{stored}.product_key = {staged}.product_key AND {stored}.unit_cost IS NOT NULL"
    return {column: f"CASE WHEN {keeps} THEN {value} ELSE {staged}.{column} END" for column, value in values.items()}


def keep_costs(cursor: Any, table: str, key: str, stored: str, condition: str) -> None:
    """Give the rows of `table` that meet `condition` the unit cost that `stored` has under their key."""
    assignments = ", ".join(f"{column} = {value}" for column, value in cost_columns("f", table).items())
    cursor.execute(f"UPDATE {table} SET {assignments} FROM {stored} AS f WHERE f.{key} = {table}.{key} AND {condition}")


def departed_costs(fact: Fact) -> str:
    """Return SQL for the unit costs of lines that have left the fact, under the fact's key."""
    products = "JOIN dim_product USING (product_id)"  # whose keys may be other ones by now
    return f"(SELECT line_id AS {fact.key}, product_key, unit_cost FROM etl_line_cost {products} WHERE fact = '{fact.table}')"


def store_departed_costs(cursor: Any, fact: Fact, departing: str) -> None:
    """Store the unit costs of the lines whose keys the query `departing` returns."""
    cursor.execute(
        f"INSERT INTO etl_line_cost (fact, line_id, product_id, unit_cost) SELECT '{fact.table}', {fact.key}, product_id, unit_cost "
        f"FROM {fact.table} JOIN dim_product USING (product_key) WHERE unit_cost IS NOT NULL AND product_id IS NOT NULL "
        f"AND {fact.key} IN ({departing}) "
        "ON CONFLICT (fact, line_id) DO UPDATE SET product_id = excluded.product_id, unit_cost = excluded.unit_cost"
    )
