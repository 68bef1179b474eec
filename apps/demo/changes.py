"""What happens to a shop in a while: each change is a write of the shop's own services, stamped by the databases."""

from collections import Counter
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from django.db import transaction
from django.db.models import Max, Model

from apps.demo import trade
from apps.demo.books import first_sound
from apps.demo.draw import stream
from apps.demo.newcomers import add_customer
from apps.demo.shop import ShopIsEmpty
from apps.sources.catalog.models import Product, ProductStatus
from apps.sources.orders.models import Customer, Order, OrderItem, OrderStatus
from apps.sources.payments.models import Payment, PaymentStatus

KOPIYKA = Decimal("0.01")
Change = Callable[[np.random.Generator], bool]


def last_id(model: type[Model]) -> int:
    return int(model._default_manager.aggregate(last=Max("id"))["last"] or 0)


def start_for(rng: np.random.Generator) -> int:
    return int(rng.integers(1, last_id(Order), endpoint=True))


def order_paid(rng: np.random.Generator) -> bool:
    books = first_sound(OrderStatus.NEW, start_for(rng), lambda books: not books.of_status(PaymentStatus.PENDING))
    if not books:
        return False
    trade.capture(books.id, trade.any_method(rng), books.total)
    trade.move(books.id, OrderStatus.PAID)
    return True


def payment_late(rng: np.random.Generator) -> bool:
    """A pending payment is captured at last."""
    books = first_sound(OrderStatus.NEW, start_for(rng), lambda books: bool(books.of_status(PaymentStatus.PENDING)))
    if not books:
        return False
    pending = books.of_status(PaymentStatus.PENDING)[0]
    trade.capture_pending(pending.id, books.total)
    trade.move(books.id, OrderStatus.PAID)
    return True


def payment_replaced(rng: np.random.Generator) -> bool:
    """Money goes back and comes again by another method: only payments_db changes."""
    books = first_sound(OrderStatus.SHIPPED, start_for(rng), lambda books: len(books.of_status(PaymentStatus.CAPTURED)) == 1)
    if not books:
        return False
    used = books.of_status(PaymentStatus.CAPTURED)[0].method
    trade.refund(books)
    trade.capture(books.id, trade.any_method(rng, but=used), books.total)
    return True


def order_shipped(rng: np.random.Generator) -> bool:
    books = first_sound(OrderStatus.PAID, start_for(rng))
    if books:
        trade.move(books.id, OrderStatus.SHIPPED)
    return bool(books)


def order_cancelled(rng: np.random.Generator) -> bool:
    books = first_sound(OrderStatus.PAID, start_for(rng))
    if books:
        trade.refund(books)
        trade.move(books.id, OrderStatus.CANCELLED)
    return bool(books)


def order_deleted(rng: np.random.Generator) -> bool:
    """The payments stay as evidence, with what was given back."""
    books = first_sound(OrderStatus.PAID, start_for(rng))
    if not books:
        return False
    trade.refund(books)
    with transaction.atomic(using="orders_db"):
        OrderItem.objects.filter(order_id=books.id).delete()
        Order.objects.filter(id=books.id).delete()
    return True


def line_deleted(rng: np.random.Generator) -> bool:
    books = first_sound(OrderStatus.PAID, start_for(rng), lambda books: len(books.lines) > 1)
    if not books:
        return False
    line = books.lines[int(rng.integers(len(books.lines)))]
    with transaction.atomic(using="orders_db"):
        OrderItem.objects.filter(id=line.id).delete()
        Order.objects.filter(id=books.id).update(total_amount=books.total - line.net)
    trade.settle(books, books.total - line.net)
    return True


def quantity_changed(rng: np.random.Generator) -> bool:
    """The discount keeps its share of the line."""
    books = first_sound(OrderStatus.PAID, start_for(rng))
    if not books:
        return False
    line = books.lines[int(rng.integers(len(books.lines)))]
    quantity = int(line.quantity) - 1 if line.quantity > 1 and rng.integers(2) else int(line.quantity) + 1
    discount = (line.discount * quantity / line.quantity).quantize(KOPIYKA, ROUND_HALF_UP)
    total = books.total - line.net + quantity * line.unit_price - discount
    with transaction.atomic(using="orders_db"):
        OrderItem.objects.filter(id=line.id).update(quantity=quantity, discount=discount)
        Order.objects.filter(id=books.id).update(total_amount=total)
    trade.settle(books, total)
    return True


def price_changed(rng: np.random.Generator) -> bool:
    """Up or down by 1 to 8 %, in multiples of 20 kopiykas; never down to less than 5 % above cost."""
    product = (
        Product.objects.filter(id__gte=rng.integers(1, last_id(Product), endpoint=True).item()).only("price", "cost").order_by("id").first()
    )
    if not product:
        return False
    percent = int(rng.integers(1, 9)) * (1 if rng.integers(2) else -1)
    if product.price * (100 + percent) < product.cost * 105:
        percent = abs(percent)
    steps = (product.price * (100 + percent) / 20).quantize(Decimal(1), ROUND_HALF_UP)
    Product.objects.filter(id=product.id).update(price=steps / 5)
    return True


def customer_added(rng: np.random.Generator) -> bool:
    add_customer(rng)
    return True


def order_added(rng: np.random.Generator) -> bool:
    """Every second one is paid at once, the others wait with a pending payment."""
    order_id, total = trade.add_order(rng)
    method = trade.any_method(rng)
    if rng.integers(2):
        trade.capture(order_id, method, total)
        trade.move(order_id, OrderStatus.PAID)
    else:
        Payment.objects.create(order_id=order_id, method=method, status=PaymentStatus.PENDING, amount=total)
    return True


KINDS: dict[str, tuple[Change, int]] = {
    "order paid": (order_paid, 15),
    "order shipped": (order_shipped, 15),
    "order cancelled": (order_cancelled, 8),
    "payment late": (payment_late, 8),
    "payment replaced": (payment_replaced, 5),
    "price changed": (price_changed, 10),
    "quantity changed": (quantity_changed, 8),
    "line deleted": (line_deleted, 7),
    "order deleted": (order_deleted, 4),
    "customer added": (customer_added, 6),
    "order added": (order_added, 14),
}


def dealt(rng: np.random.Generator, count: int) -> list[str]:
    """Each kind once, in any order; then as often as its weight says."""
    kinds = list(KINDS)
    once = [kinds[position] for position in rng.permutation(len(kinds)).tolist()]
    weights = np.array([weight for _, weight in KINDS.values()])
    more = rng.choice(len(kinds), max(0, count - len(kinds)), p=weights / weights.sum())
    return once[:count] + [kinds[position] for position in more.tolist()]


def apply(count: int, seed: int) -> dict[str, int]:
    """Changes the shop `count` times and returns how often by kind. Where no order is left for a kind, an order is added instead.

    The choice follows from the seed and from how far the shop has come: the same seed on the same shop changes the same rows.
    """
    if not (Order.objects.exists() and Customer.objects.exists() and Product.objects.filter(status=ProductStatus.ACTIVE).exists()):
        raise ShopIsEmpty
    rng = stream(seed, "changes", last_id(Order), last_id(Payment), last_id(Customer))
    done: Counter[str] = Counter()
    for kind in dealt(rng, count):
        if KINDS[kind][0](rng):
            done[kind] += 1
        else:
            order_added(rng)
            done["order added"] += 1
    return {kind: done[kind] for kind in KINDS if done[kind]}
