"""Orders against their payments, which no one service can see: five lists, from the sources alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from apps.etl.reconcile.numbers import Orders
from apps.etl.reconcile.sources import Payments
from apps.etl.sums import align


@dataclass(frozen=True)
class Finding:
    """An order on the list `kind`: its net, captured and refunded kopiykas. `day`: YYYYMMDD, 0 of an order that is no sale."""

    kind: str
    order_id: int
    day: int
    net: int
    captured: int
    refunded: int


def find_mismatches(sales: Orders, payments: Payments) -> Iterator[Finding]:
    """Yield every order on every list that it is on. `sales` and `payments` must be of the same orders."""
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
    for kind, mask in masks.items():
        for at in np.flatnonzero(mask):
            yield Finding(kind, *(int(each[at]) for each in (ids, day, net, captured, refunded)))
