"""The columns that a fact takes from its product: category, cost and margin."""

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
        """Return category_key, cost_amount (cost x quantity; empty where the cost is unknown) and margin_amount of each line."""
        at = pa.array(np.searchsorted(self.keys, keys.to_numpy()))
        # Decimals throughout: a large catalog cost times a large quantity exceeds 2**63.
        cost = pc.multiply(self.costs.take(at), quantity.cast(pa.decimal128(19, 0))).cast(pa.decimal128(24, 2))
        return {
            "category_key": self.categories.take(at),
            "cost_amount": cost,
            "margin_amount": pc.subtract(net, cost),
        }


def update_product_columns(cursor: Any, fact: Fact, product_keys: list[int], run_id: int) -> int:
    """Update facts that were not read, of products that moved to another category or whose cost became known. Returns how many."""
    if not product_keys:
        return 0
    cost = "COALESCE(t.cost_amount, ROUND(p.cost * t.quantity, 2))"
    of_products = f"product_key IN ({', '.join(map(str, product_keys))})"
    with star_recorded(cursor, fact, of_products):
        cursor.execute(
            f"UPDATE {fact.table} AS t SET category_key = p.category_key, cost_amount = {cost}, "
            f"margin_amount = ROUND(t.net_amount - {cost}, 2), run_id = {run_id} "
            f"FROM dim_product AS p WHERE p.product_key = t.product_key AND t.{of_products} "
            "AND (t.category_key <> p.category_key OR (t.cost_amount IS NULL AND p.cost IS NOT NULL))"
        )
        return int(cursor.rowcount)
