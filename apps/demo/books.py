"""An order's books as they stand in the databases: its lines, its payments, and whether they agree."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from django.db import connections
from django.db.models import Max

from apps.sources.orders.models import Order, OrderStatus
from apps.sources.payments.models import PaymentMethod, PaymentStatus

PAGE = 50
SALES = (OrderStatus.PAID.value, OrderStatus.SHIPPED.value)
# Read as text: after `--faults` a SQLite column may hold what Django refuses to read. CHAR means text to both kinds of server.
ORDER = "SELECT status, CAST(total_amount AS CHAR), CAST(order_date AS CHAR), customer_id, employee_id, region_id FROM orders WHERE id = %s"
LINES = (
    "SELECT id, product_id, CAST(quantity AS CHAR), CAST(unit_price AS CHAR), CAST(discount AS CHAR)"
    " FROM order_items WHERE order_id = %s ORDER BY id"
)
PAYMENTS = "SELECT id, method, status, CAST(amount AS CHAR) FROM payments WHERE order_id = %s ORDER BY id"


@dataclass(frozen=True)
class Line:
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

    def is_sound(self) -> bool:
        whole = self.quantity >= 1 and self.quantity == int(self.quantity)
        return whole and self.unit_price >= 0 and 0 <= self.discount <= self.gross


@dataclass(frozen=True)
class Paid:
    """One row of payments."""

    id: int
    method: str
    status: str
    amount: Decimal

    def is_sound(self) -> bool:
        return self.method in PaymentMethod.values and self.status in PaymentStatus.values and self.amount > 0


@dataclass(frozen=True)
class Books:
    id: int
    status: str
    total: Decimal
    order_date: str
    customer_id: int | None
    lines: list[Line] = field(default_factory=list)
    payments: list[Paid] = field(default_factory=list)

    def of_status(self, status: PaymentStatus) -> list[Paid]:
        return [payment for payment in self.payments if payment.status == status]

    @property
    def kept(self) -> Decimal:
        """Captured minus refunded."""
        captured, refunded = (self.of_status(status) for status in (PaymentStatus.CAPTURED, PaymentStatus.REFUNDED))
        return sum((row.amount for row in captured), Decimal(0)) - sum((row.amount for row in refunded), Decimal(0))

    def is_sound(self) -> bool:
        """Nothing in it would be rejected, its total is the sum of its lines, and a sale is paid in full."""
        rows: list[Line | Paid] = [*self.lines, *self.payments]
        return (
            bool(self.lines)
            and self.customer_id is not None
            and "2015-01-01" <= self.order_date <= datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            and all(row.is_sound() for row in rows)
            and self.total == sum(line.net for line in self.lines)
            and self.kept == (self.total if self.status in SALES else 0)
        )


def exact(text: str | None) -> Decimal:
    """SQLite keeps DECIMAL as a number with two decimals or fewer."""
    return Decimal(text or "NaN").quantize(Decimal("0.01"))


def read(order_id: int) -> Books | None:
    """The order's books, or None where they hold what is no number or no text."""
    with connections["orders_db"].cursor() as orders, connections["payments_db"].cursor() as payments:
        try:
            orders.execute(ORDER, [order_id])
            status, total, order_date, customer_id, *_ = orders.fetchone()
            orders.execute(LINES, [order_id])
            lines = [Line(row[0], row[1], Decimal(row[2]), exact(row[3]), exact(row[4])) for row in orders.fetchall()]
            payments.execute(PAYMENTS, [order_id])
            rows = [Paid(row[0], row[1], row[2], exact(row[3])) for row in payments.fetchall()]
            return Books(order_id, status, exact(total), order_date or "", customer_id, lines, rows)
        except (InvalidOperation, TypeError):
            return None


def sound(status: str, start: int = 1) -> Iterator[Books]:
    """Sound orders of the status in the order of their ids, from `start` to the last and from the first to `start`."""
    last = Order.objects.aggregate(last=Max("id"))["last"] or 0
    for low, high in ((start, last), (1, start - 1)):
        for order_id in ids(status, low, high):
            books = read(order_id)
            if books and books.is_sound():
                yield books


def ids(status: str, low: int, high: int) -> Iterator[int]:
    """In pages by key: only as much of a large table is read as is asked for."""
    while page := list(Order.objects.filter(status=status, id__range=(low, high)).order_by("id").values_list("id", flat=True)[:PAGE]):
        yield from page
        low = page[-1] + 1


def first_sound(status: str, start: int, fits: Callable[[Books], bool] = lambda books: True) -> Books | None:
    return next((books for books in sound(status, start) if fits(books)), None)
