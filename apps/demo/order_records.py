"""An order as the databases hold it: its lines, its payments, and whether they agree."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from django.db import connections
from django.db.models import Max

from apps.sources.orders.models import Order, OrderStatus
from apps.sources.payments.models import PaymentMethod, PaymentStatus

IDS_PER_QUERY = 50
SALE_STATUSES = (OrderStatus.PAID.value, OrderStatus.SHIPPED.value)
# Amounts and dates are read as text: after `--faults` a SQLite column may hold a value that Django fails to convert.
# CAST AS CHAR gives text on both MySQL and SQLite.
ORDER_SQL = "SELECT status, CAST(total_amount AS CHAR), CAST(order_date AS CHAR), customer_id FROM orders WHERE id = %s"
LINES_SQL = (
    "SELECT id, product_id, CAST(quantity AS CHAR), CAST(unit_price AS CHAR), CAST(discount AS CHAR)"
    " FROM order_items WHERE order_id = %s ORDER BY id"
)
PAYMENTS_SQL = "SELECT id, method, status, CAST(amount AS CHAR) FROM payments WHERE order_id = %s ORDER BY id"


@dataclass(frozen=True)
class LineRecord:
    """One row of order_items."""

    id: int
    product_id: int
    quantity: Decimal
    unit_price: Decimal
    discount: Decimal

    @property
    def gross(self) -> Decimal:
        return self.quantity * self.unit_price

    @property
    def net(self) -> Decimal:
        return self.gross - self.discount

    def is_valid(self) -> bool:
        is_whole = self.quantity >= 1 and self.quantity == int(self.quantity)
        return is_whole and self.unit_price >= 0 and 0 <= self.discount <= self.gross


@dataclass(frozen=True)
class PaymentRecord:
    """One row of payments."""

    id: int
    method: str
    status: str
    amount: Decimal

    def is_valid(self) -> bool:
        return self.method in PaymentMethod.values and self.status in PaymentStatus.values and self.amount > 0


@dataclass(frozen=True)
class OrderRecord:
    """One row of orders with its lines and payments. `order_date` is UTC, as the database prints it."""

    id: int
    status: str
    total: Decimal
    order_date: str
    customer_id: int | None
    lines: list[LineRecord] = field(default_factory=list)
    payments: list[PaymentRecord] = field(default_factory=list)

    def payments_with(self, status: PaymentStatus) -> list[PaymentRecord]:
        return [payment for payment in self.payments if payment.status == status]

    @property
    def net_paid(self) -> Decimal:
        """The sum of captured minus refunded payments."""
        captured, refunded = (self.payments_with(status) for status in (PaymentStatus.CAPTURED, PaymentStatus.REFUNDED))
        return sum((row.amount for row in captured), Decimal(0)) - sum((row.amount for row in refunded), Decimal(0))

    def is_consistent(self) -> bool:
        """Return True if the ETL would reject none of its rows, its total is the sum of its lines, and a sale is paid in full."""
        rows: list[LineRecord | PaymentRecord] = [*self.lines, *self.payments]
        return (
            bool(self.lines)
            and self.customer_id is not None
            and "2015-01-01" <= self.order_date <= datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            and all(row.is_valid() for row in rows)
            and self.total == sum(line.net for line in self.lines)
            and self.net_paid == (self.total if self.status in SALE_STATUSES else 0)
        )


def parse_amount(text: str | None) -> Decimal:
    """Return the amount with two decimals: SQLite drops trailing zeros. Raises InvalidOperation where it is no number."""
    return Decimal(text or "NaN").quantize(Decimal("0.01"))


def read_order(order_id: int) -> OrderRecord | None:
    """Read one order; return None where a number or text in it cannot be parsed."""
    with connections["orders_db"].cursor() as orders, connections["payments_db"].cursor() as payments:
        try:
            orders.execute(ORDER_SQL, [order_id])
            status, total, order_date, customer_id = orders.fetchone()
            orders.execute(LINES_SQL, [order_id])
            lines = [LineRecord(row[0], row[1], Decimal(row[2]), parse_amount(row[3]), parse_amount(row[4])) for row in orders.fetchall()]
            payments.execute(PAYMENTS_SQL, [order_id])
            rows = [PaymentRecord(row[0], row[1], row[2], parse_amount(row[3])) for row in payments.fetchall()]
            return OrderRecord(order_id, status, parse_amount(total), order_date or "", customer_id, lines, rows)
        except (InvalidOperation, TypeError):
            return None


def iterate_consistent_orders(status: str, start: int = 1) -> Iterator[OrderRecord]:
    """Yield the consistent orders of the status by id: from `start` to the last, then from the first up to `start`."""
    last = Order.objects.aggregate(last=Max("id"))["last"] or 0
    for low, high in ((start, last), (1, start - 1)):
        for order_id in iterate_order_ids(status, low, high):
            order = read_order(order_id)
            if order and order.is_consistent():
                yield order


def iterate_order_ids(status: str, low: int, high: int) -> Iterator[int]:
    """Yield ids in pages by key: of a large table only as much is read as the caller takes."""
    orders = Order.objects.filter(status=status).order_by("id").values_list("id", flat=True)
    while page := list(orders.filter(id__range=(low, high))[:IDS_PER_QUERY]):
        yield from page
        low = page[-1] + 1


def find_consistent_order(status: str, start: int, accept: Callable[[OrderRecord], bool] = lambda order: True) -> OrderRecord | None:
    """Return the first consistent order at or after `start` that `accept` takes, or None."""
    return next((order for order in iterate_consistent_orders(status, start) if accept(order)), None)
