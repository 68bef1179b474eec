"""Rows that must be rejected, one of each kind, each in an otherwise fine paid order (or person, or product) of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, Max

from apps.demo.books import Books, sound
from apps.demo.fault_kinds import KINDS, Kind, Target
from apps.demo.shop import ShopIsEmpty
from apps.sources.auth.models import User, UserStatus
from apps.sources.catalog.models import Category, Product, ProductStatus
from apps.sources.orders.models import Customer, Order, OrderStatus, Region
from apps.sources.payments.models import PaymentStatus


@dataclass(frozen=True)
class Fault:
    """One row as it was planted; `row_id` is None, and nothing rejected, where the server cannot hold the kind."""

    kind: str
    table: str
    row_id: int | None
    what: str
    rejected: bool


class ShopTooSmall(Exception):
    """The shop has too few sound orders for a fault of each kind."""


def plant() -> list[Fault]:
    """One fault of every kind that the servers can hold. Planting again takes other orders."""
    if not Order.objects.exists():
        raise ShopIsEmpty
    held = [kind for kind in KINDS if holds(kind)]
    orders = orders_for(held)
    with lenient(connections["orders_db"]):
        return [planted(kind, orders) if kind in held else not_held(kind) for kind in KINDS]


def holds(kind: Kind) -> bool:
    return not kind.sqlite_only or connections[kind.alias].vendor == "sqlite"


def not_held(kind: Kind) -> Fault:
    return Fault(kind.name, kind.table, None, f"cannot be held by {connections[kind.alias].display_name}", rejected=False)


def orders_for(kinds: list[Kind]) -> dict[OrderStatus, Iterator[Books]]:
    """Enough orders of each status, found before the first fault is planted."""
    wanted = [kind.order_status for kind in kinds if kind.order_status]
    found = {status: list(islice(filter(is_plain, sound(status)), wanted.count(status))) for status in set(wanted)}
    if any(len(found[status]) < wanted.count(status) for status in found):
        raise ShopTooSmall
    return {status: iter(books) for status, books in found.items()}


def is_plain(books: Books) -> bool:
    """No more than one payment, and a line without a discount: so the fault is all that is wrong with its row."""
    return len(books.payments) <= 1 and any(line.discount == 0 for line in books.lines)


def planted(kind: Kind, orders: dict[OrderStatus, Iterator[Books]]) -> Fault:
    row_id = row_in(kind, next(orders[kind.order_status])) if kind.order_status else ADDED[kind.target]()
    if kind.assignment:
        with connections[kind.alias].cursor() as cursor:
            cursor.execute(f"UPDATE {kind.table} SET {kind.assignment} WHERE id = {row_id}")  # noqa: S608  our own text and number
    return Fault(kind.name, kind.table, row_id, kind.what, kind.rejected)


def row_in(kind: Kind, books: Books) -> int:
    if kind.target is Target.PAYMENT:
        return books.of_status(PaymentStatus.CAPTURED)[0].id
    if kind.target is Target.LINE:
        return next(line.id for line in books.lines if line.discount == 0)
    return books.id


def add_customer() -> int:
    """A customer whom no order names, so that only their own row is rejected."""
    number = (Customer.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    region_id = Region.objects.values_list("id", flat=True).order_by("id")[0]
    return Customer.objects.create(first_name="Олена", last_name="Хибна", email=f"fault.{number}@example.com", region_id=region_id).id


def add_product() -> int:
    """Inactive: no new order takes it."""
    number = (Product.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    category_id = Category.objects.values_list("id", flat=True).order_by("id")[0]
    return Product.objects.create(
        name="Хибний товар", sku=f"FAULT-{number}", category_id=category_id, price=2000, cost=1500, status=ProductStatus.INACTIVE
    ).id


def add_second_account() -> int:
    """For a customer who has exactly one account."""
    single = User.objects.filter(customer_id__isnull=False).values("customer_id").annotate(accounts=Count("id")).filter(accounts=1)
    customer_id = single.order_by("customer_id").values_list("customer_id", flat=True)[0]
    return User.objects.create(email=f"second.account.{customer_id}@example.com", status=UserStatus.ACTIVE, customer_id=customer_id).id


ADDED: dict[Target, Callable[[], int]] = {
    Target.CUSTOMER: add_customer,
    Target.PRODUCT: add_product,
    Target.ACCOUNT: add_second_account,
}


@contextmanager
def lenient(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """MySQL takes a zero date only where the session's sql_mode lets it."""
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
