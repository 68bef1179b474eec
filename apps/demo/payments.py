"""Payments of a chunk of orders: captured ones for each sale, failed and pending ones beside them."""

from dataclasses import dataclass

import numpy as np

from apps.demo.bulk import Columns, insert_rows, with_timestamps
from apps.demo.money import format_money
from apps.demo.orders import NEW, PAID, SHIPPED, Orders
from apps.demo.randomness import Ints, draw_flags, draw_weighted, make_rng, pick
from apps.demo.timestamps import MINUTE, SECOND, Timestamps, add_microseconds, format_timestamps
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
    """Payments of one status: the position of each order in its chunk, the amount in kopiykas, and when it was attempted."""

    status: int
    order: Ints
    amount: Ints
    attempted_at: Timestamps


def make_attempts(rng: np.random.Generator, orders: Orders) -> list[Attempts]:
    """Make the payments, listed as they follow each other in one order: failed, pending, captured, second part of a split payment."""
    size = len(orders.status)
    sale = np.flatnonzero((orders.status == PAID) | (orders.status == SHIPPED))
    split = sale[draw_flags(rng, SPLIT_PERCENT, len(sale))]
    failed = np.flatnonzero(draw_flags(rng, FAILED_PERCENT, size))
    pending = np.flatnonzero((orders.status == NEW) & draw_flags(rng, PENDING_PERCENT, size))
    second = np.zeros(size, dtype=np.int64)
    second[split] = orders.total[split] * rng.integers(20, 81, len(split)) // 100
    soon = add_microseconds(orders.ordered_at, rng.integers(10 * SECOND, MINUTE, size))
    return [
        Attempts(FAILED, failed, orders.total[failed], soon[failed]),
        Attempts(PENDING, pending, orders.total[pending], soon[pending]),
        Attempts(CAPTURED, sale, orders.total[sale] - second[sale], orders.paid_at[sale]),
        Attempts(CAPTURED, split, second[split], add_microseconds(orders.paid_at[split], np.full(len(split), 2 * MINUTE))),
    ]


def write_payments(seed: int, orders: Orders, first_payment: int) -> int:
    """Insert the payments of a chunk with ids from `first_payment`; return their number."""
    rng = make_rng(seed, "payments", orders.first)
    attempts = make_attempts(rng, orders)
    status = np.repeat([kind.status for kind in attempts], [len(kind.order) for kind in attempts])
    order, amount, attempted_at = (
        np.concatenate([getattr(kind, name) for kind in attempts]) for name in ("order", "amount", "attempted_at")
    )
    by_order = np.argsort(order, kind="stable")
    return insert_rows(
        Payment,
        payment_columns(rng, first_payment, orders.first, status[by_order], order[by_order], amount[by_order], attempted_at[by_order]),
    )


def payment_columns(
    rng: np.random.Generator, first_payment: int, first_order: int, status: Ints, order: Ints, amount: Ints, attempted_at: Timestamps
) -> Columns:
    size = len(order)
    captured = (status == CAPTURED).tolist()
    rows: Columns = {
        "id": list(range(first_payment, first_payment + size)),
        "order_id": (order + first_order + 1).tolist(),
        "method": pick(METHODS, draw_weighted(rng, METHOD_PERCENTS, size)),
        "status": pick(STATUSES, status),
        "amount": format_money(amount),
        "paid_at": [text if paid else None for text, paid in zip(format_timestamps(attempted_at), captured, strict=True)],
    }
    return with_timestamps(rows, attempted_at, add_microseconds(attempted_at, rng.integers(0, 5 * SECOND, size)))
