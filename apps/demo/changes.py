"""Realistic changes to a shop: each is a write that one of the shop's services would make, timestamped by the databases."""

from collections import Counter
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from django.db import transaction
from django.db.models import Max, Model

from apps.demo import operations
from apps.demo.order_records import OrderRecord, find_consistent_order
from apps.demo.randomness import make_rng
from apps.demo.registration import register_customer
from apps.demo.shop import ShopIsEmpty
from apps.sources.catalog.models import Product, ProductStatus
from apps.sources.orders.models import Customer, Order, OrderItem, OrderStatus
from apps.sources.payments.models import Payment, PaymentStatus

KOPIYKA = Decimal("0.01")
Change = Callable[[np.random.Generator], bool]  # returns False where the shop has nothing left to change that way


def last_id(model: type[Model]) -> int:
    return int(model._default_manager.aggregate(last=Max("id"))["last"] or 0)


def draw_order(
    rng: np.random.Generator, status: OrderStatus, accept: Callable[[OrderRecord], bool] = lambda order: True
) -> OrderRecord | None:
    """Return the first acceptable consistent order of the status from a random id on, or None."""
    return find_consistent_order(status, int(rng.integers(1, last_id(Order), endpoint=True)), accept)


def pay_order(rng: np.random.Generator) -> bool:
    order = draw_order(rng, OrderStatus.NEW, lambda order: not order.payments_with(PaymentStatus.PENDING))
    if not order:
        return False
    operations.capture_payment(order.id, operations.draw_payment_method(rng), order.total)
    operations.set_order_status(order.id, OrderStatus.PAID)
    return True


def capture_late_payment(rng: np.random.Generator) -> bool:
    """Capture a pending payment."""
    order = draw_order(rng, OrderStatus.NEW, lambda order: bool(order.payments_with(PaymentStatus.PENDING)))
    if not order:
        return False
    pending = order.payments_with(PaymentStatus.PENDING)[0]
    operations.capture_pending_payment(pending.id, order.total)
    operations.set_order_status(order.id, OrderStatus.PAID)
    return True


def replace_payment(rng: np.random.Generator) -> bool:
    """Refund a payment and capture it again by another method: only payments_db changes."""
    order = draw_order(rng, OrderStatus.SHIPPED, lambda order: len(order.payments_with(PaymentStatus.CAPTURED)) == 1)
    if not order:
        return False
    method = order.payments_with(PaymentStatus.CAPTURED)[0].method
    operations.refund_order(order)
    operations.capture_payment(order.id, operations.draw_payment_method(rng, exclude=method), order.total)
    return True


def ship_order(rng: np.random.Generator) -> bool:
    order = draw_order(rng, OrderStatus.PAID)
    if order:
        operations.set_order_status(order.id, OrderStatus.SHIPPED)
    return bool(order)


def cancel_order(rng: np.random.Generator) -> bool:
    order = draw_order(rng, OrderStatus.PAID)
    if order:
        operations.refund_order(order)
        operations.set_order_status(order.id, OrderStatus.CANCELLED)
    return bool(order)


def delete_order(rng: np.random.Generator) -> bool:
    """Refund and delete an order; its payments and refunds stay."""
    order = draw_order(rng, OrderStatus.PAID)
    if not order:
        return False
    operations.refund_order(order)
    with transaction.atomic(using="orders_db"):
        OrderItem.objects.filter(order_id=order.id).delete()
        Order.objects.filter(id=order.id).delete()
    return True


def delete_line(rng: np.random.Generator) -> bool:
    order = draw_order(rng, OrderStatus.PAID, lambda order: len(order.lines) > 1)
    if not order:
        return False
    line = order.lines[int(rng.integers(len(order.lines)))]
    with transaction.atomic(using="orders_db"):
        OrderItem.objects.filter(id=line.id).delete()
        Order.objects.filter(id=order.id).update(total_amount=order.total - line.net)
    operations.settle_difference(order, order.total - line.net)
    return True


def change_quantity(rng: np.random.Generator) -> bool:
    """Add or remove one piece of a line; its discount keeps its percentage."""
    order = draw_order(rng, OrderStatus.PAID)
    if not order:
        return False
    line = order.lines[int(rng.integers(len(order.lines)))]
    quantity = int(line.quantity) - 1 if line.quantity > 1 and rng.integers(2) else int(line.quantity) + 1
    discount = (line.discount * quantity / line.quantity).quantize(KOPIYKA, ROUND_HALF_UP)
    total = order.total - line.net + quantity * line.unit_price - discount
    with transaction.atomic(using="orders_db"):
        OrderItem.objects.filter(id=line.id).update(quantity=quantity, discount=discount)
        Order.objects.filter(id=order.id).update(total_amount=total)
    operations.settle_difference(order, total)
    return True


def change_price(rng: np.random.Generator) -> bool:
    """Raise or lower a price by 1 to 8 %, in multiples of 20 kopiykas; never lower it below cost plus 5 %."""
    first = rng.integers(1, last_id(Product), endpoint=True).item()
    product = Product.objects.filter(id__gte=first).only("price", "cost").order_by("id").first()
    if not product:
        return False
    percent = int(rng.integers(1, 9)) * (1 if rng.integers(2) else -1)
    if product.price * (100 + percent) < product.cost * 105:
        percent = abs(percent)
    steps = (product.price * (100 + percent) / 20).quantize(Decimal(1), ROUND_HALF_UP)
    Product.objects.filter(id=product.id).update(price=steps / 5)
    return True


def add_customer(rng: np.random.Generator) -> bool:
    register_customer(rng)
    return True


def add_order(rng: np.random.Generator) -> bool:
    """Create an order: one in two is paid at once, the others have a pending payment."""
    order_id, total = operations.create_order(rng)
    method = operations.draw_payment_method(rng)
    if rng.integers(2):
        operations.capture_payment(order_id, method, total)
        operations.set_order_status(order_id, OrderStatus.PAID)
    else:
        Payment.objects.create(order_id=order_id, method=method, status=PaymentStatus.PENDING, amount=total)
    return True


# By name: the change, and its weight.
KINDS: dict[str, tuple[Change, int]] = {
    "order paid": (pay_order, 15),
    "order shipped": (ship_order, 15),
    "order cancelled": (cancel_order, 8),
    "payment late": (capture_late_payment, 8),
    "payment replaced": (replace_payment, 5),
    "price changed": (change_price, 10),
    "quantity changed": (change_quantity, 8),
    "line deleted": (delete_line, 7),
    "order deleted": (delete_order, 4),
    "customer added": (add_customer, 6),
    "order added": (add_order, 14),
}


def draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """Draw `count` kinds: each once in random order, then by weight."""
    kinds = list(KINDS)
    once = [kinds[position] for position in rng.permutation(len(kinds)).tolist()]
    weights = np.array([weight for _, weight in KINDS.values()])
    more = rng.choice(len(kinds), max(0, count - len(kinds)), p=weights / weights.sum())
    return once[:count] + [kinds[position] for position in more.tolist()]


def apply(count: int, seed: int) -> dict[str, int]:
    """Apply `count` changes and return their number by kind; add an order where a kind finds no order. Raises ShopIsEmpty.

    The choice depends on the seed and on the last ids: the same seed on the same shop changes the same rows.
    """
    if not (Order.objects.exists() and Customer.objects.exists() and Product.objects.filter(status=ProductStatus.ACTIVE).exists()):
        raise ShopIsEmpty
    rng = make_rng(seed, "changes", last_id(Order), last_id(Payment), last_id(Customer))
    done: Counter[str] = Counter()
    for kind in draw_kinds(rng, count):
        if KINDS[kind][0](rng):
            done[kind] += 1
        else:
            add_order(rng)
            done["order added"] += 1
    return {kind: done[kind] for kind in KINDS if done[kind]}
