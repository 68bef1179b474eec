"""Single operations of the shop's services: create an order, change its status, capture and refund payments."""

from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone

from apps.demo.order_records import OrderRecord
from apps.demo.orders import DISCOUNTS, WEB_PERCENT
from apps.demo.timestamps import FIRST_MIDNIGHT
from apps.sources.catalog.models import Product, ProductStatus
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, OrderStatus
from apps.sources.payments.models import Payment, PaymentMethod, PaymentStatus

KOPIYKA = Decimal("0.01")
ORDER_INTERVAL = timedelta(hours=2)


def draw_payment_method(rng: np.random.Generator, exclude: str = "") -> str:
    methods = [method for method in PaymentMethod.values if method != exclude]
    return methods[int(rng.integers(len(methods)))]


def set_order_status(order_id: int, status: OrderStatus) -> None:
    Order.objects.filter(id=order_id).update(status=status)


def capture_payment(order_id: int, method: str, amount: Decimal) -> None:
    Payment.objects.create(order_id=order_id, method=method, status=PaymentStatus.CAPTURED, amount=amount, paid_at=Now())


def capture_pending_payment(payment_id: int, amount: Decimal) -> None:
    Payment.objects.filter(id=payment_id).update(status=PaymentStatus.CAPTURED, amount=amount, paid_at=Now())


def create_refund(order_id: int, method: str, amount: Decimal) -> None:
    Payment.objects.create(order_id=order_id, method=method, status=PaymentStatus.REFUNDED, amount=amount, paid_at=Now())


def refund_order(order: OrderRecord) -> None:
    """Create one refund for each captured payment, less what has been refunded already."""
    refunded = sum((row.amount for row in order.payments_with(PaymentStatus.REFUNDED)), Decimal(0))
    with transaction.atomic(using="payments_db"):
        for payment in order.payments_with(PaymentStatus.CAPTURED):
            covered = min(refunded, payment.amount)
            refunded -= covered
            if payment.amount > covered:
                create_refund(order.id, payment.method, payment.amount - covered)


def settle_difference(order: OrderRecord, total: Decimal) -> None:
    """Capture or refund the difference to a changed total, by the payment method of the last captured payment."""
    method = order.payments_with(PaymentStatus.CAPTURED)[-1].method
    if total > order.net_paid:
        capture_payment(order.id, method, total - order.net_paid)
    elif total < order.net_paid:
        create_refund(order.id, method, order.net_paid - total)


def create_order(rng: np.random.Generator) -> tuple[int, Decimal]:
    """Create an order of one to three products for an existing customer; return its id and total."""
    last = Customer.objects.aggregate(last=Max("id"))["last"]
    customers = Customer.objects.filter(id__gte=int(rng.integers(1, last, endpoint=True))).order_by("id")
    customer_id, region_id = customers.values_list("id", "region_id")[0]
    lines = [make_line(rng, product) for product in draw_products(rng)]
    total = sum((line.unit_price * line.quantity - line.discount for line in lines), Decimal(0))
    with transaction.atomic(using="orders_db"):
        order = Order.objects.create(
            customer_id=customer_id,
            employee_id=draw_seller(rng, region_id),
            region_id=region_id,
            order_date=next_order_time(),
            status=OrderStatus.NEW,
            total_amount=total,
        )
        for line in lines:
            line.order_id = order.id
            line.save(force_insert=True)
    return order.id, total


def next_order_time() -> datetime:
    """Return a time two hours after the latest order, at most now.

    Orders dated today would leave a gap of months after the demo's two years. Dates that `--faults` has spoilt are left out.
    """
    now = timezone.now()
    orders = Order.objects.filter(order_date__range=(FIRST_MIDNIGHT, now)).order_by("-id")
    latest = orders.values_list("order_date", flat=True).first() or now
    return min(latest + ORDER_INTERVAL, now)


def draw_products(rng: np.random.Generator) -> list[Product]:
    """Draw one to three different active products, each by key: a large catalog is not read for one order."""
    active = Product.objects.filter(status=ProductStatus.ACTIVE).only("id", "price").order_by("id")
    last = active.aggregate(last=Max("id"))["last"]
    starts = rng.integers(1, last, int(rng.integers(1, 4)), endpoint=True).tolist()
    found = [active.filter(id__gte=start)[0] for start in starts]
    return list({product.id: product for product in found}.values())


def make_line(rng: np.random.Generator, product: Product) -> OrderItem:
    quantity, percent = int(rng.integers(1, 4)), int(rng.choice(DISCOUNTS))
    discount = (product.price * quantity * percent / 100).quantize(KOPIYKA)
    return OrderItem(product_id=product.id, quantity=quantity, unit_price=product.price, discount=discount)


def draw_seller(rng: np.random.Generator, region_id: int) -> int | None:
    """Draw the id of an employee of the region, or None for a web order."""
    ids = list(Employee.objects.filter(region=region_id).order_by("id").values_list("id", flat=True))
    is_web = rng.integers(0, 100) < WEB_PERCENT
    return None if is_web or not ids else ids[int(rng.integers(len(ids)))]
