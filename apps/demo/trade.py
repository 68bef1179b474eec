"""Single acts of the shop's services: an order is added and moves on, money is captured and given back."""

from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone

from apps.demo import instants
from apps.demo.books import Books
from apps.demo.orders import DISCOUNTS, WEB_PERCENT
from apps.sources.catalog.models import Product, ProductStatus
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, OrderStatus
from apps.sources.payments.models import Payment, PaymentMethod, PaymentStatus

KOPIYKA = Decimal("0.01")
BETWEEN_ORDERS = timedelta(hours=2)


def any_method(rng: np.random.Generator, but: str = "") -> str:
    methods = [method for method in PaymentMethod.values if method != but]
    return methods[int(rng.integers(len(methods)))]


def move(order_id: int, status: OrderStatus) -> None:
    Order.objects.filter(id=order_id).update(status=status)


def capture(order_id: int, method: str, amount: Decimal) -> None:
    Payment.objects.create(order_id=order_id, method=method, status=PaymentStatus.CAPTURED, amount=amount, paid_at=Now())


def capture_pending(payment_id: int, amount: Decimal) -> None:
    Payment.objects.filter(id=payment_id).update(status=PaymentStatus.CAPTURED, amount=amount, paid_at=Now())


def give_back(order_id: int, method: str, amount: Decimal) -> None:
    Payment.objects.create(order_id=order_id, method=method, status=PaymentStatus.REFUNDED, amount=amount, paid_at=Now())


def refund(books: Books) -> None:
    """One refund for each captured payment, less what was given back before."""
    before = sum((row.amount for row in books.of_status(PaymentStatus.REFUNDED)), Decimal(0))
    with transaction.atomic(using="payments_db"):
        for payment in books.of_status(PaymentStatus.CAPTURED):
            covered = min(before, payment.amount)
            before -= covered
            if payment.amount > covered:
                give_back(books.id, payment.method, payment.amount - covered)


def settle(books: Books, total: Decimal) -> None:
    """After the total changed: the rest is captured, or what is too much given back, by the method that was used."""
    method = books.of_status(PaymentStatus.CAPTURED)[-1].method
    if total > books.kept:
        capture(books.id, method, total - books.kept)
    elif total < books.kept:
        give_back(books.id, method, books.kept - total)


def add_order(rng: np.random.Generator) -> tuple[int, Decimal]:
    """A new order of one to three products, of a customer who exists; returns its id and total."""
    last = Customer.objects.aggregate(last=Max("id"))["last"]
    customers = Customer.objects.filter(id__gte=int(rng.integers(1, last, endpoint=True))).order_by("id")
    customer_id, region_id = customers.values_list("id", "region_id")[0]
    lines = [add_line(rng, product) for product in products(rng)]
    total = sum((line.unit_price * line.quantity - line.discount for line in lines), Decimal(0))
    with transaction.atomic(using="orders_db"):
        order = Order.objects.create(
            customer_id=customer_id,
            employee_id=seller(rng, region_id),
            region_id=region_id,
            order_date=next_moment(),
            status=OrderStatus.NEW,
            total_amount=total,
        )
        for line in lines:
            line.order_id = order.id
            line.save(force_insert=True)
    return order.id, total


def next_moment() -> datetime:
    """The shop's clock: a while after its latest sound order. Orders of today would leave a hole of months behind the demo's two years."""
    now = timezone.now()
    sound = Order.objects.filter(order_date__range=(instants.OPENED, now)).order_by("-id")
    latest = sound.values_list("order_date", flat=True).first() or now
    return min(latest + BETWEEN_ORDERS, now)


def products(rng: np.random.Generator) -> list[Product]:
    """One to three active products, all different; by key, since a large catalog is not read for one order."""
    active = Product.objects.filter(status=ProductStatus.ACTIVE).only("id", "price").order_by("id")
    last = active.aggregate(last=Max("id"))["last"]
    starts = rng.integers(1, last, int(rng.integers(1, 4)), endpoint=True).tolist()
    found = [active.filter(id__gte=start)[0] for start in starts]
    return list({product.id: product for product in found}.values())


def add_line(rng: np.random.Generator, product: Product) -> OrderItem:
    quantity, percent = int(rng.integers(1, 4)), int(rng.choice(DISCOUNTS))
    discount = (product.price * quantity * percent / 100).quantize(KOPIYKA)
    return OrderItem(product_id=product.id, quantity=quantity, unit_price=product.price, discount=discount)


def seller(rng: np.random.Generator, region_id: int) -> int | None:
    """An employee of the region, or none for a web order."""
    ids = list(Employee.objects.filter(region=region_id).order_by("id").values_list("id", flat=True))
    web = rng.integers(0, 100) < WEB_PERCENT
    return None if web or not ids else ids[int(rng.integers(len(ids)))]
