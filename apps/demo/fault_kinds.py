"""The kinds of faults: the table, the assignment that spoils a row, and what is wrong with it afterwards."""

from dataclasses import dataclass
from enum import Enum

from apps.sources.orders.models import OrderStatus


class Target(Enum):
    """The database alias and table of the row to spoil."""

    LINE = ("orders_db", "order_items")
    ORDER = ("orders_db", "orders")
    PAYMENT = ("payments_db", "payments")
    CUSTOMER = ("orders_db", "customers")
    PRODUCT = ("catalog_db", "products")
    ACCOUNT = ("auth_db", "auth_users")


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    `assignment` is SQL for SET, empty where a new row is the fault by itself; `sqlite_only` means that no MySQL type can hold the
    value; `rejected` is False where the ETL loads the row and warns; `cancelled` spoils a cancelled order instead of a paid one.
    """

    name: str
    target: Target
    assignment: str
    description: str
    sqlite_only: bool = False
    rejected: bool = True
    cancelled: bool = False

    @property
    def alias(self) -> str:
        return self.target.value[0]

    @property
    def table(self) -> str:
        return self.target.value[1]

    @property
    def order_status(self) -> OrderStatus | None:
        """The status of the order to spoil; None where a row is added instead."""
        if self.target not in (Target.LINE, Target.ORDER, Target.PAYMENT):
            return None
        return OrderStatus.CANCELLED if self.cancelled else OrderStatus.PAID


KINDS = [
    FaultKind("quantity 0", Target.LINE, "quantity = 0", "quantity is 0"),
    FaultKind("quantity negative", Target.LINE, "quantity = -1", "quantity is -1"),
    FaultKind("quantity not whole", Target.LINE, "quantity = 1.5", "quantity is 1.5", sqlite_only=True),
    FaultKind("price negative", Target.LINE, "unit_price = -1", "unit_price is -1.00"),
    FaultKind("discount negative", Target.LINE, "discount = -1", "discount is -1.00"),
    FaultKind("discount over gross", Target.LINE, "discount = quantity * unit_price + 1", "discount is gross + 1.00"),
    FaultKind("price too large", Target.LINE, "unit_price = 10000000000", "unit_price is out of DECIMAL(12,2)", sqlite_only=True),
    FaultKind("gross too large", Target.LINE, "unit_price = 9999999999.99, quantity = 2", "9999999999.99 x 2 is out of DECIMAL(12,2)"),
    FaultKind("price not a number", Target.LINE, "unit_price = 'abc'", "unit_price is the text abc", sqlite_only=True),
    FaultKind("quantity 0, cancelled order", Target.LINE, "quantity = 0", "quantity is 0: rejected, not filtered", cancelled=True),
    FaultKind("no order date", Target.ORDER, "order_date = NULL", "order_date is NULL"),
    FaultKind("zero date", Target.ORDER, "order_date = '0000-00-00 00:00:00'", "order_date is 0000-00-00"),
    FaultKind("date too early", Target.ORDER, "order_date = '2014-12-31 10:00:00.000000'", "order_date is before 2015"),
    FaultKind("date in the future", Target.ORDER, "order_date = '2099-01-01 10:00:00.000000'", "order_date is in 2099"),
    FaultKind("order status unknown", Target.ORDER, "status = 'misplaced'", "status is misplaced"),
    FaultKind("no customer", Target.ORDER, "customer_id = NULL", "customer_id is NULL"),
    FaultKind("payment method unknown", Target.PAYMENT, "method = 'barter'", "method is barter"),
    FaultKind("payment status unknown", Target.PAYMENT, "status = 'settled'", "status is settled"),
    FaultKind("payment of 0", Target.PAYMENT, "amount = 0", "amount is 0.00"),
    FaultKind("payment negative", Target.PAYMENT, "amount = -1", "amount is -1.00"),
    FaultKind("product not UTF-8", Target.PRODUCT, "name = CAST(x'd0ff' AS TEXT)", "name holds the bytes D0 FF", sqlite_only=True),
    FaultKind(
        "customer not UTF-8", Target.CUSTOMER, "first_name = CAST(x'd0ff' AS TEXT)", "first_name holds the bytes D0 FF", sqlite_only=True
    ),
    FaultKind("text too long", Target.CUSTOMER, f"first_name = '{'Я' * 81}'", "first_name has 81 characters of 80", sqlite_only=True),
    FaultKind("second account", Target.ACCOUNT, "", "two accounts name the same customer_id"),
    FaultKind("e-mail unparsable", Target.CUSTOMER, "email = REPLACE(email, '@', ' at ')", "loaded with a warning", rejected=False),
]
