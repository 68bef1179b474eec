"""A shop of a dozen orders whose ids lie in several slices and segments, loaded once; every history starts from a copy of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connections, transaction

from apps.etl.slices import SEGMENT
from apps.sources.auth.models import Role, User, UserRole
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, Region
from apps.sources.payments.models import Payment
from tests import emptying, oracle
from tests.etl.warehouse_rows import DIMENSIONS, age_source_rows, run_etl

# The evening before the clocks of Kyiv change.
OPENING = datetime(2026, 3, 28, 18, tzinfo=UTC)
ORDERS = (-3, 1, 2, 3, 4, 5, SEGMENT - 1, SEGMENT, 3 * SEGMENT + 7, 400 * SEGMENT, 400 * SEGMENT + 1, 5_000_000)
COSTS = {pk: Decimal(f"{pk}.37") for pk in range(1, 6)}  # by product
WAREHOUSE_TABLES = ("etl_load", "etl_order", "etl_segment", *DIMENSIONS, "fact_sales")
Rows = dict[tuple[str, str], list[tuple[Any, ...]]]


def build_shop() -> None:
    """Fill the empty source databases."""
    for pk, code in enumerate(("KV", "LV", "OD"), 1):
        Region.objects.create(id=pk, code=code, name=f"Область {code}")
        Employee.objects.create(id=pk, first_name="Остап", last_name=code, email=f"e{pk}@shop.ua", hired_at="2020-02-29", region_id=pk)
    for pk in range(1, 5):
        person = {"first_name": "Оля", "last_name": f"Ґава, {pk}", "email": f"c{pk}@shop.ua"}
        Customer.objects.create(id=pk, **person, region_id=1 + pk % 3, created_at=OPENING)
        User.objects.create(id=pk, email=f"c{pk}@shop.ua", status="active", customer_id=pk)
    User.objects.create(id=9, email="e1@shop.ua", status="active", employee_id=1)
    for pk, name in enumerate(("ADMIN", "SALES"), 1):
        Role.objects.create(id=pk, name=name)
        UserRole.objects.create(id=pk, user_id=9, role_id=pk)
    for pk, parent in ((1, None), (2, 1), (3, 1), (4, None)):
        Category.objects.create(id=pk, name=f"Категорія {pk}", parent_id=parent)
    for pk, cost in COSTS.items():
        fields = {"name": f"Товар {pk}", "sku": f"S{pk}", "category_id": 1 + pk % 3, "price": 10 * pk, "status": "active"}
        Product.objects.create(id=pk, **fields, cost=cost)
    for number, pk in enumerate(ORDERS):
        build_order(number, pk)


def build_order(number: int, pk: int) -> None:
    """Create an order of one to three lines; most are paid, and some of these by two payments."""
    status = ("paid", "shipped", "paid", "new", "paid", "cancelled")[number % 6]
    employee = None if number % 4 == 3 else 1 + number % 3
    references = {"customer_id": 1 + number % 4, "employee_id": employee, "region_id": 1 + number % 3}
    Order.objects.create(id=pk, **references, status=status, order_date=OPENING.replace(day=1 + number), total_amount=1)
    for line in range(1 + number % 3):
        fields = {"quantity": 1 + line, "unit_price": Decimal("33.33"), "discount": Decimal("3.30") * line}
        OrderItem.objects.create(order_id=pk, product_id=1 + (number + line) % 5, **fields)
    for amount in ("50.00", "0.01")[: 1 + number % 2] if status in ("paid", "shipped") else ():
        Payment.objects.create(order_id=pk, method="card", status="captured", amount=amount, paid_at=OPENING)


# --- The shop's clock ---


@contextmanager
def clock_restored() -> Iterator[None]:
    """Give the source databases their own clock back at the end."""
    options = {alias: settings.DATABASES[alias]["OPTIONS"] for alias in oracle.TABLES}
    before = {alias: each["init_command"] for alias, each in options.items()}
    try:
        yield
    finally:
        for alias, command in before.items():
            options[alias]["init_command"] = command
            connections[alias].close()


def has_clock() -> bool:
    """Return True if the source databases can be given another clock, session by session; SQLite's is that of this computer."""
    return connections["orders_db"].vendor == "mysql"


def set_clock(instant: datetime) -> None:
    """Set the clock of all later sessions of the source databases, and of those that are open here."""
    if not has_clock():
        return
    for alias in oracle.TABLES:
        options = settings.DATABASES[alias]["OPTIONS"]
        command = options["init_command"].split(", timestamp=")[0]
        options["init_command"] = f"{command}, timestamp={instant.timestamp():.6f}"
        with connections[alias].cursor() as cursor:
            cursor.execute("SET timestamp = %s", [instant.timestamp()])


# --- Every history's start ---


def open_shop() -> Rows:
    """Build the shop, load it, and return every row of the sources and of the warehouse."""
    set_clock(OPENING)
    build_shop()
    age_source_rows()
    run_etl()
    tables = [*((alias, table) for alias, names in oracle.TABLES.items() for table in names), *(("dwh", name) for name in WAREHOUSE_TABLES)]
    return {(alias, table): read_rows(alias, table) for alias, table in tables}


def read_rows(alias: str, table: str) -> list[tuple[Any, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
        return list(cursor.fetchall())


def restore(rows: Rows) -> None:
    """Make sources, warehouse and ledger what they were when `rows` were read; the calendar may have more years."""
    emptying.delete_rows("default")
    for alias in (*oracle.TABLES, "dwh"):
        mine = {table: each for (owner, table), each in rows.items() if owner == alias}
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            if cursor.db.vendor == "mysql":
                cursor.execute("SET foreign_key_checks = 0")
            for table in reversed(mine):
                cursor.execute(f"DELETE FROM {table}")
            for table, each in mine.items():
                cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(each[0]))})", each)
