"""The columns that a fact takes from its product: category, cost and margin; and the costs of lines that left it, for when they return."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apps.etl.declarations import Fact
from apps.etl.star import star_recorded
from apps.warehouse.dimensions import UNKNOWN


class Products:
    """Category and cost by product key, as they are in the warehouse after its dimensions were loaded."""

    def __init__(self, cursor: Any):
        cursor.execute("SELECT product_key, category_key, cost FROM dim_product ORDER BY product_key")
        rows = cursor.fetchall()
        self.keys = np.array([row[0] for row in rows])
        self.categories = pa.array([row[1] for row in rows], pa.int64())
        costs = [None if row[2] is None else Decimal(str(row[2])).quantize(Decimal("0.01")) for row in rows]
        self.costs = pa.array(costs, pa.decimal128(12, 2))

    def add_inferred(self, keys: Any) -> None:
        """Add products of which nothing but the natural key is known; their keys are larger than all others."""
        self.keys = np.append(self.keys, keys)
        self.categories = pa.concat_arrays([self.categories, pa.array([UNKNOWN] * len(keys), pa.int64())])
        self.costs = pa.concat_arrays([self.costs, pa.nulls(len(keys), self.costs.type)])

    def columns(self, keys: pa.Array, quantity: pa.Array, net: pa.Array) -> dict[str, pa.Array]:
        """Return category_key, unit_cost (empty where the cost is unknown), cost_amount and margin_amount of each line."""
        at = pa.array(np.searchsorted(self.keys, keys.to_numpy()))
        # Decimals throughout: a large catalog cost times a large quantity exceeds 2**63.
        unit_cost = self.costs.take(at)
        cost = pc.multiply(unit_cost, quantity.cast(pa.decimal128(19, 0))).cast(pa.decimal128(24, 2))
        return {
            "category_key": self.categories.take(at),
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
