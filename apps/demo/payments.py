"""Payments of a chunk of orders: what each sale captured, and the attempts around it."""

from dataclasses import dataclass

import numpy as np

from apps.demo import instants, money
from apps.demo.draw import Ints, chosen, pick, stream, weighted
from apps.demo.orders import NEW, PAID, SHIPPED, Orders
from apps.demo.write import Columns, insert, stamped
from apps.sources.payments.models import Payment, PaymentMethod, PaymentStatus

METHODS = [PaymentMethod.CARD.value, PaymentMethod.BANK_TRANSFER.value, PaymentMethod.PAYPAL.value, PaymentMethod.CASH.value]
METHOD_PERCENTS = [58, 20, 12, 10]
FAILED_PERCENT = 7
SPLIT_PERCENT = 4
PENDING_PERCENT = 50  # of new orders
FAILED, PENDING, CAPTURED = range(3)
STATUSES = [PaymentStatus.FAILED.value, PaymentStatus.PENDING.value, PaymentStatus.CAPTURED.value]


@dataclass(frozen=True)
class Attempts:
    """Some payments of one kind: the position of the order in its chunk, kopiykas, and when it was tried."""

    status: int
    order: Ints
    amount: Ints
    tried_at: instants.Instants


def make(rng: np.random.Generator, orders: Orders) -> list[Attempts]:
    """In the order in which one order's payments come: a failed one, one still pending, the captured one, its second part."""
    size = len(orders.status)
    sale = np.flatnonzero((orders.status == PAID) | (orders.status == SHIPPED))
    split = sale[chosen(rng, SPLIT_PERCENT, len(sale))]
    failed = np.flatnonzero(chosen(rng, FAILED_PERCENT, size))
    pending = np.flatnonzero((orders.status == NEW) & chosen(rng, PENDING_PERCENT, size))
    second = np.zeros(size, dtype=np.int64)
    second[split] = orders.total[split] * rng.integers(20, 81, len(split)) // 100
    soon = instants.later(orders.ordered_at, rng.integers(10 * instants.SECOND, instants.MINUTE, size))
    return [
        Attempts(FAILED, failed, orders.total[failed], soon[failed]),
        Attempts(PENDING, pending, orders.total[pending], soon[pending]),
        Attempts(CAPTURED, sale, orders.total[sale] - second[sale], orders.paid_at[sale]),
        Attempts(CAPTURED, split, second[split], instants.later(orders.paid_at[split], np.full(len(split), 2 * instants.MINUTE))),
    ]


def write(seed: int, orders: Orders, first_payment: int) -> int:
    rng = stream(seed, "payments", orders.first)
    attempts = make(rng, orders)
    status = np.repeat([kind.status for kind in attempts], [len(kind.order) for kind in attempts])
    order, amount, tried_at = (np.concatenate([getattr(kind, name) for kind in attempts]) for name in ("order", "amount", "tried_at"))
    by_order = np.argsort(order, kind="stable")
    return insert(
        Payment, columns(rng, first_payment, orders.first, status[by_order], order[by_order], amount[by_order], tried_at[by_order])
    )


def columns(
    rng: np.random.Generator, first_payment: int, first_order: int, status: Ints, order: Ints, amount: Ints, tried_at: instants.Instants
) -> Columns:
    size = len(order)
    captured = (status == CAPTURED).tolist()
    rows: Columns = {
        "id": list(range(first_payment, first_payment + size)),
        "order_id": (order + first_order + 1).tolist(),
        "method": pick(METHODS, weighted(rng, METHOD_PERCENTS, size)),
        "status": pick(STATUSES, status),
        "amount": money.written(amount),
        "paid_at": [text if paid else None for text, paid in zip(instants.written(tried_at), captured, strict=True)],
    }
    return stamped(rows, tried_at, instants.later(tried_at, rng.integers(0, 5 * instants.SECOND, size)))
