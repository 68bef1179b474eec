"""The numbers that both sides give of every order, as columns of int64. Money is whole kopiykas."""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Of an order: summed over its lines, so that a line of another day, customer, employee or region than its order shows as well.
SHOWN = ("lines", "quantity", "gross", "discount", "net", "paid", "line_ids", "product_ids")
HIDDEN = ("days", "customers", "employees", "regions", "shipped", "checksum", "paid_checksum")
NUMBERS = (*SHOWN, *HIDDEN)
MONEY = ("gross", "discount", "net", "paid")
# In the checksums each line's content is weighted by its id, and each order's payments by the order's: amounts that move from one line or
# order to another keep every sum and change these. They are sums modulo MODULUS.
CHECKSUMS = ("checksum", "paid_checksum")
WEIGHT, MODULUS = 9_973, 1_000_000_007
CHECKSUM = "700 * {gross} + 300 * {discount} + 500 * {net} + 11 * {quantity} + 13 * {product}"  # amounts in UAH


@dataclass(frozen=True)
class Orders:
    """One row per order: ids ascending, `day` as YYYYMMDD, and an array for each of NUMBERS."""

    ids: Any
    day: Any
    numbers: dict[str, Any]

    @classmethod
    def none(cls) -> "Orders":
        empty = np.array([], dtype=np.int64)
        return cls(empty, empty, dict.fromkeys(NUMBERS, empty))


def align(values: Any, ids: Any, wanted: Any) -> Any:
    """Return the values at `wanted` ids, 0 for those that are not among `ids`."""
    found = np.zeros(len(wanted), dtype=np.int64)
    found[np.searchsorted(wanted, ids)] = values
    return found
