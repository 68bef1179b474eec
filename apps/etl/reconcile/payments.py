"""Orders against their payments, which no one service can see: five lists, from the sources alone."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from apps.etl.reconcile.numbers import Orders
from apps.etl.reconcile.sources import Payments
from apps.etl.sums import align


class Mismatches(NamedTuple):
    """The orders on one list, an int64 array of each: net, captured and refunded kopiykas. `day`: YYYYMMDD, 0 of an order that is no sale.

    40 bytes for each order: as objects, stored all at once, they took 45 MB more in a shop of a million orders.
    """

    order_id: Any
    day: Any
    net: Any
    captured: Any
    refunded: Any

    @property
    def paid(self) -> Any:
        return self.captured - self.refunded

    def rows(self) -> Iterator[dict[str, int]]:
        for row in zip(*self, strict=True):
            yield dict(zip(self._fields, map(int, row), strict=True))


def find_mismatches(sales: Orders, payments: Payments) -> dict[str, Mismatches]:
    """Return each list of the orders, which must be the same in `sales` and `payments`."""
    ids = np.union1d(sales.ids, payments.ids)
    net, day = align(sales.numbers["net"], sales.ids, ids), align(sales.day, sales.ids, ids)
    captured, refunded, captures = (align(each, payments.ids, ids) for each in (payments.captured, payments.refunded, payments.captures))
    sold, paid = np.isin(ids, sales.ids), captured - refunded
    masks = {
        "unpaid": sold & (paid <= 0) & (net > 0),
        "not_sold": ~sold & (paid > 0),
        "differs": sold & (paid > 0) & (paid != net),
        "captured_twice": (captures > 1) & (paid > net) & sold,
        "refunded_above": refunded > captured,
    }
    return {kind: Mismatches(*(each[mask] for each in (ids, day, net, captured, refunded))) for kind, mask in masks.items()}


def join_mismatches(parts: Sequence[dict[str, Mismatches]]) -> dict[str, Mismatches]:
    """Return each list of all parts together, of which there must be one."""
    return {kind: Mismatches(*map(np.concatenate, zip(*(part[kind] for part in parts), strict=True))) for kind in parts[0]}
