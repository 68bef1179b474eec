"""The programs that write to the shop: any row, without its foreign keys where the database allows it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, OperationalError, connections

from apps.etl.slices import SEGMENT
from tests.histories.shop import Rows
from tests.oracle import TABLES

ALIASES = {table: alias for alias, tables in TABLES.items() for table in tables}
LONG_AGO = "2026-01-15 12:00:00.000000"
TIME_ZONES = {"west": "-05:00", "east": "+09:00"}
ORDER_IDS = (0, -1, -5 * SEGMENT, 6, 7, 2 * SEGMENT, 3 * SEGMENT + 8, 77 * SEGMENT, 400 * SEGMENT + 2, 9_000_000)


class Writer:
    """Sessions of one program with the shop's databases."""

    def __init__(self, opening: Rows, in_transaction: bool = False):
        self.opening = opening
        self.connections = {alias: connections[alias].copy() for alias in TABLES}
        self.in_transaction = in_transaction
        self.stamp = "now"
        self.now = datetime.min

    def change(self, what: str, at: int, value: int, stamp: str, now: datetime) -> bool:
        """Make the change. Return False where keys or other programs' locks refuse it, or the rest of it."""
        self.stamp, self.now = stamp, now
        try:
            CHANGES[what](self, at, value)
        except (IntegrityError, OperationalError):
            return False
        return True

    def execute(self, table: str, statement: str, parameters: Sequence[Any] = ()) -> Any:
        connection = self.connections[ALIASES[table]]
        if connection.connection is None:
            connection.set_autocommit(not self.in_transaction, force_begin_transaction_with_broken_autocommit=True)
        with connection.cursor() as cursor:
            if connection.vendor == "mysql":
                cursor.execute(
                    f"SET foreign_key_checks = 0, innodb_lock_wait_timeout = 0, timestamp = {self.now.timestamp()}, "
                    f"time_zone = '{TIME_ZONES.get(self.stamp, '+00:00')}'"
                )
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else ()

    def ids(self, table: str) -> list[int]:
        return [pk for (pk,) in self.execute(table, f"SELECT id FROM {table} ORDER BY id")]

    def pick(self, table: str, at: int) -> int:
        """Return the id of an existing row; of none where the table is empty."""
        ids = self.ids(table) or [0]
        return ids[at % len(ids)]

    def update(self, table: str, pk: int, **values: Any) -> None:
        connection = self.connections[ALIASES[table]]
        columns = [f"{name} = %s" for name in values]
        if self.stamp == "unchanged" and connection.vendor == "mysql":
            columns.append("updated_at = updated_at")
        self.execute(table, f"UPDATE {table} SET {', '.join(columns)} WHERE id = %s", [*values.values(), pk])
        if self.stamp != "now" and connection.vendor == "sqlite":  # its trigger replaces a value that the statement leaves
            self.execute(table, f"UPDATE {table} SET updated_at = %s WHERE id = %s AND updated_at <> %s", [LONG_AGO, pk, LONG_AGO])

    def insert(self, table: str, **values: Any) -> None:
        if self.stamp != "now" and (self.stamp == "unchanged" or self.connections[ALIASES[table]].vendor == "sqlite"):
            values["updated_at"] = LONG_AGO
        self.execute(table, f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})", list(values.values()))

    def delete(self, table: str, pk: int, column: str = "id") -> None:
        self.execute(table, f"DELETE FROM {table} WHERE {column} = %s", [pk])

    def close(self, commit: bool = True) -> None:
        for connection in self.connections.values():
            if connection.connection is not None and self.in_transaction and commit:
                with suppress(IntegrityError):  # SQLite looks at foreign keys when a transaction ends
                    connection.commit()
            connection.close()


def choose[T](values: Sequence[T], value: int) -> T:
    return values[value % len(values)]


# --- Orders, lines and payments ---


def edit_order(writer: Writer, at: int, value: int) -> None:
    edits: tuple[dict[str, Any], ...] = (
        *({"status": status} for status in ("paid", "shipped", "new", "cancelled", "misplaced")),
        *({"order_date": date} for date in order_dates(writer.now)),
        *({"customer_id": customer} for customer in (1, 2, None)),
        *({"employee_id": employee} for employee in (1, 3, None)),
        *({"region_id": region} for region in (1, 3)),
    )
    writer.update("orders", writer.pick("orders", at), **choose(edits, value))


def order_dates(now: datetime) -> list[datetime | None]:
    """Return dates of the past, around the days on which Kyiv's clocks change, at the limit of the future and behind it."""
    limit = now + timedelta(minutes=5)
    dates: list[datetime | None] = [None, limit, limit + timedelta(microseconds=1), now + timedelta(days=1), now + timedelta(days=3)]
    return dates + [now.replace(month=3, day=1 + day, hour=hour) for day in (27, 28) for hour in (0, 21, 22, 23)]


def edit_line(writer: Writer, at: int, value: int) -> None:
    edits: tuple[dict[str, Any], ...] = (
        *({"quantity": quantity} for quantity in (1, 2, 3, 7, 0)),
        *({"unit_price": price} for price in ("0.01", "10.00", "-1.00")),
        *({"discount": discount} for discount in ("0.00", "0.33", "9999.00")),
        *({"product_id": product} for product in (1, 2, 3, 777)),
    )
    writer.update("order_items", writer.pick("order_items", at), **choose(edits, value))


def edit_payment(writer: Writer, at: int, value: int) -> None:
    edits: tuple[dict[str, Any], ...] = (
        *({"amount": amount} for amount in ("0.01", "33.33", "0.00")),
        *({"status": status} for status in ("captured", "refunded", "failed", "settled")),
        *({"method": method} for method in ("cash", "card", "barter")),
        *({"paid_at": instant} for instant in (None, writer.now)),
    )
    writer.update("payments", writer.pick("payments", at), **choose(edits, value))


def move_line(writer: Writer, at: int, value: int) -> None:
    writer.update("order_items", writer.pick("order_items", at), order_id=writer.pick("orders", value))


def move_payment(writer: Writer, at: int, value: int) -> None:
    order = 999 if value % 10 == 0 else writer.pick("orders", value)
    writer.update("payments", writer.pick("payments", at), order_id=order)


def renumber_line(writer: Writer, at: int, value: int) -> None:
    writer.update("order_items", writer.pick("order_items", at), id=1_000 + value)


def add_order(writer: Writer, at: int, value: int) -> None:
    present = writer.ids("orders")
    pk = choose([pk for pk in ORDER_IDS if pk not in present] or ORDER_IDS, at)
    dates = order_dates(writer.now)
    references = {"customer_id": 1 + value % 5, "employee_id": None, "region_id": 1 + value % 3}
    writer.insert("orders", id=pk, **references, status="paid", order_date=choose(dates, value), total_amount=1)
    writer.insert("order_items", order_id=pk, product_id=1 + value % 6, quantity=2, unit_price="12.34", discount="0.05")
    writer.insert("payments", order_id=pk, method="paypal", status="captured", amount="24.63", paid_at=writer.now)


def add_line(writer: Writer, at: int, value: int) -> None:
    order = writer.pick("orders", at)
    writer.insert("order_items", order_id=order, product_id=1 + value % 6, quantity=1, unit_price="5.55", discount="0.00")


def add_payment(writer: Writer, at: int, value: int) -> None:
    status = choose(("captured", "refunded", "captured", "pending"), value)
    writer.insert("payments", order_id=writer.pick("orders", at), method="cash", status=status, amount="7.77", paid_at=writer.now)


def delete_line(writer: Writer, at: int, value: int) -> None:
    writer.delete("order_items", writer.pick("order_items", at))


def delete_payment(writer: Writer, at: int, value: int) -> None:
    writer.delete("payments", writer.pick("payments", at))


def delete_order(writer: Writer, at: int, value: int) -> None:
    """Delete an order; now and then its lines or its payments stay."""
    order = writer.pick("orders", at)
    if value % 4:
        writer.delete("payments", order, "order_id")
    if value % 3:
        writer.delete("order_items", order, "order_id")
    writer.delete("orders", order)


# --- What orders refer to ---


def edit_reference(writer: Writer, at: int, value: int) -> None:
    """Change a row of a dimension's source; a product's cost stays, which the warehouse takes once."""
    edits: tuple[tuple[str, dict[str, Any]], ...] = (
        *(("customers", {"last_name": name}) for name in ("а,б", "в\\", f"Ї{value}")),
        *(("customers", {"region_id": region}) for region in (1, 2, 3)),
        *(("products", {"category_id": category}) for category in (1, 2, 3, 4)),
        ("products", {"price": f"{value}.99"}),
        ("products", {"status": choose(("active", "inactive"), at)}),
        *(("categories", {"parent_id": parent}) for parent in (None, 4)),
        ("categories", {"name": f"К{value}-{at}"}),
        ("regions", {"name": f"Р{value}"}),
        ("employees", {"is_manager": value % 2, "region_id": 1 + at % 3}),
        ("auth_users", {"status": choose(("active", "blocked", "disabled"), at)}),
        ("auth_users", {"customer_id": 1 + at % 4}),
        ("user_roles", {"role_id": 1 + at % 2}),
    )
    table, values = choose(edits, value)
    writer.update(table, writer.pick(table, at), **values)


REFERENCED = ("customers", "products", "employees", "regions", "categories", "auth_users", "roles", "user_roles")


def delete_reference(writer: Writer, at: int, value: int) -> None:
    table = choose(REFERENCED, value)
    writer.delete(table, writer.pick(table, at))


def restore_reference(writer: Writer, at: int, value: int) -> None:
    """Insert a deleted row as it was at first, as from a backup; its old `updated_at` comes with it."""
    table = choose(REFERENCED, value)
    present = writer.ids(table)
    row = choose([row for row in writer.opening[ALIASES[table], table] if row[0] not in present] or [()], at)
    if row:
        writer.execute(table, f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)


Changing = Callable[[Writer, int, int], None]
CHANGES: dict[str, Changing] = {
    change.__name__: change
    for change in (
        edit_order,
        edit_line,
        edit_payment,
        move_line,
        move_payment,
        renumber_line,
        add_order,
        add_line,
        add_payment,
        delete_line,
        delete_payment,
        delete_order,
        edit_reference,
        delete_reference,
        restore_reference,
    )
}
