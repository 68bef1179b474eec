"""Planting of faults: one row of each kind that the ETL must reject, each in a valid order, customer or product of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, Max

from apps.demo.fault_kinds import KINDS, FaultKind, Target
from apps.demo.order_records import OrderRecord, iterate_consistent_orders
from apps.demo.shop import ShopIsEmpty
from apps.sources.auth.models import User, UserStatus
from apps.sources.catalog.models import Category, Product, ProductStatus
from apps.sources.orders.models import Customer, Order, OrderStatus, Region
from apps.sources.payments.models import PaymentStatus


@dataclass(frozen=True)
class Fault:
    """One planted fault. Where the server cannot hold the value, `row_id` is None and `rejected` is False."""

    kind: str
    table: str
    row_id: int | None
    description: str
    rejected: bool


class ShopTooSmall(Exception):
    """The shop has too few consistent orders for a fault of each kind."""


def plant() -> list[Fault]:
    """Plant one fault of every kind that the servers can hold; a second call takes other orders.

    Raises ShopIsEmpty or ShopTooSmall.
    """
    if not Order.objects.exists():
        raise ShopIsEmpty
    supported = [kind for kind in KINDS if is_supported(kind)]
    orders = find_orders(supported)
    with allow_zero_dates(connections["orders_db"]):
        return [plant_fault(kind, orders) if kind in supported else skip_fault(kind) for kind in KINDS]


def is_supported(kind: FaultKind) -> bool:
    return not kind.sqlite_only or connections[kind.alias].vendor == "sqlite"


def skip_fault(kind: FaultKind) -> Fault:
    return Fault(kind.name, kind.table, None, f"cannot be held by {connections[kind.alias].display_name}", rejected=False)


def find_orders(kinds: list[FaultKind]) -> dict[OrderStatus, Iterator[OrderRecord]]:
    """Find an order for each kind, by status, before the first fault is planted. Raises ShopTooSmall."""
    wanted = [kind.order_status for kind in kinds if kind.order_status]
    found = {status: list(islice(filter(is_simple, iterate_consistent_orders(status)), wanted.count(status))) for status in set(wanted)}
    if any(len(found[status]) < wanted.count(status) for status in found):
        raise ShopTooSmall
    return {status: iter(orders) for status, orders in found.items()}


def is_simple(order: OrderRecord) -> bool:
    """Return True for at most one payment and a line without discount: there a fault breaks one rule alone."""
    return len(order.payments) <= 1 and any(line.discount == 0 for line in order.lines)


def plant_fault(kind: FaultKind, orders: dict[OrderStatus, Iterator[OrderRecord]]) -> Fault:
    row_id = select_row(kind, next(orders[kind.order_status])) if kind.order_status else ROW_CREATORS[kind.target]()
    if kind.assignment:
        with connections[kind.alias].cursor() as cursor:
            cursor.execute(f"UPDATE {kind.table} SET {kind.assignment} WHERE id = {row_id}")  # noqa: S608  constants and an integer
    return Fault(kind.name, kind.table, row_id, kind.description, kind.rejected)


def select_row(kind: FaultKind, order: OrderRecord) -> int:
    """Return the id of the row of the order to spoil."""
    if kind.target is Target.PAYMENT:
        return order.payments_with(PaymentStatus.CAPTURED)[0].id
    if kind.target is Target.LINE:
        return next(line.id for line in order.lines if line.discount == 0)
    return order.id


def create_customer() -> int:
    """Create a customer without orders, so that no other row is rejected with it."""
    number = (Customer.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    region_id = Region.objects.values_list("id", flat=True).order_by("id")[0]
    return Customer.objects.create(first_name="Олена", last_name="Хибна", email=f"fault.{number}@example.com", region_id=region_id).id


def create_product() -> int:
    """Create an inactive product, which no new order takes."""
    number = (Product.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    category_id = Category.objects.values_list("id", flat=True).order_by("id")[0]
    return Product.objects.create(
        name="Хибний товар", sku=f"FAULT-{number}", category_id=category_id, price=2000, cost=1500, status=ProductStatus.INACTIVE
    ).id


def create_second_account() -> int:
    """Create a second account for a customer who has one."""
    single = User.objects.filter(customer_id__isnull=False).values("customer_id").annotate(accounts=Count("id")).filter(accounts=1)
    customer_id = single.order_by("customer_id").values_list("customer_id", flat=True)[0]
    return User.objects.create(email=f"second.account.{customer_id}@example.com", status=UserStatus.ACTIVE, customer_id=customer_id).id


ROW_CREATORS: dict[Target, Callable[[], int]] = {
    Target.CUSTOMER: create_customer,
    Target.PRODUCT: create_product,
    Target.ACCOUNT: create_second_account,
}


@contextmanager
def allow_zero_dates(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Clear the session's sql_mode on MySQL, whose default refuses a zero date; restore it at the end."""
    if connection.vendor != "mysql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.sql_mode")
        (before,) = cursor.fetchone()
        cursor.execute("SET SESSION sql_mode = ''")
        try:
            yield
        finally:
            cursor.execute("SET SESSION sql_mode = %s", [before])
