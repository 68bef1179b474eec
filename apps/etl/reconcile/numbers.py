"""What both sides compute of every order, as columns of int64. Money is whole kopiykas."""

from dataclasses import dataclass
from typing import Any

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
