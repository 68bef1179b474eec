"""The sources' side: sales as orders_db and payments_db hold them, without the rows that are rejected."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from apps.etl.extract.snapshot import Snapshot
from apps.etl.reconcile.numbers import MODULUS, WEIGHT, Orders
from apps.etl.tables import SALE_STATUSES

# Instants are turned into days by quarters of an hour: no time zone has been off by another fraction since 2015.
QUARTER = timedelta(minutes=15)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MYSQL = {
    "quarter": "TIMESTAMPDIFF(MINUTE, '2000-01-01', o.order_date) DIV 15",
    "kopiykas": "CAST(SUM({}) * 100 AS SIGNED)",
    "whole": "CAST(SUM({}) AS SIGNED)",
    "checksum": f"CAST(MOD(SUM(MOD(i.id, {WEIGHT}) * ({{}})), {MODULUS}) AS SIGNED)",
}
SQLITE = {  # amounts are floats there, exact to the kopiyka each; strftime rounds the last microsecond before midnight up
    "quarter": "(CAST(strftime('%s', substr(o.order_date, 1, 19)) AS INTEGER) - 946684800) / 900",
    "kopiykas": "CAST(SUM(ROUND(({}) * 100)) AS INTEGER)",
    "whole": "CAST(SUM({}) AS INTEGER)",
    "checksum": f"SUM(CAST(ROUND((i.id % {WEIGHT}) * ({{}})) AS INTEGER) % {MODULUS}) % {MODULUS}",
}


@dataclass(frozen=True)
class Payments:
    """By order, ids ascending: captured and refunded kopiykas, and the number of captured payments."""

    ids: Any
    captured: Any
    refunded: Any
    captures: Any


def read_sales(snapshot: Snapshot, zone: str, condition: str, parameters: Iterable[Any], rejected: Iterable[int]) -> Orders:
    """Return the recognised sales among the orders `o` that meet `condition`, without `rejected` lines and without what was paid."""
    dialect = dialect_of(snapshot)
    gross = "i.unit_price * i.quantity"
    # 7 x gross + 3 x discount + 5 x net, with gross - discount for net.
    content = "1200 * i.unit_price * i.quantity - 200 * i.discount + 11 * i.quantity + 13 * i.product_id"
    columns = [
        "o.id",
        f"COALESCE({dialect['quarter']}, -1)",
        *(f"COALESCE(o.{name}, 0)" for name in ("customer_id", "employee_id", "region_id")),
        "CASE WHEN o.status = 'shipped' THEN 1 ELSE 0 END",
        "COUNT(*)",
        dialect["whole"].format("i.quantity"),
        dialect["kopiykas"].format(gross),
        dialect["kopiykas"].format("i.discount"),
        dialect["whole"].format("i.id"),
        dialect["whole"].format("i.product_id"),
        dialect["checksum"].format(content),
    ]
    return to_orders(snapshot.read_numbers(columns, f"{sold_lines(condition, rejected)} GROUP BY o.id", list(parameters)), zone)


def sold_lines(condition: str, rejected: Iterable[int]) -> str:
    """Return SQL, from FROM on, for the lines `i` of recognised sales `o` that meet `condition`, without the `rejected` lines."""
    statuses = ", ".join(f"'{status}'" for status in SALE_STATUSES)
    conditions = [f"o.status IN ({statuses})", condition, not_among("i.id", rejected)]
    return f"FROM orders AS o JOIN order_items AS i ON i.order_id = o.id WHERE {' AND '.join(filter(None, conditions))}"


def to_orders(columns: list[Any], zone: str) -> Orders:
    order = np.argsort(columns[0], kind="stable")
    ids, quarters, customer, employee, region, shipped, lines, quantity, gross, discount, line_ids, product_ids, checksum = (
        column[order] for column in columns
    )
    day = days_of(quarters, zone)
    numbers = {
        "lines": lines,
        "quantity": quantity,
        "gross": gross,
        "discount": discount,
        "net": gross - discount,
        "line_ids": line_ids,
        "product_ids": product_ids,
        "days": day * lines,
        "customers": customer * lines,
        "employees": employee * lines,
        "regions": region * lines,
        "shipped": shipped * lines,
        "checksum": checksum % MODULUS,
    }
    return Orders(ids, day, numbers)


def read_payments(snapshot: Snapshot, condition: str, rejected: Iterable[int]) -> Payments:
    """Return the captured and refunded payments of the orders that meet `condition`, without the `rejected` payments."""
    dialect = dialect_of(snapshot)
    captured, refunded = (f"CASE WHEN status = '{status}' THEN amount ELSE 0 END" for status in ("captured", "refunded"))
    captures = "CASE WHEN status = 'captured' THEN 1 ELSE 0 END"
    sums = [dialect["kopiykas"].format(captured), dialect["kopiykas"].format(refunded), dialect["whole"].format(captures)]
    conditions = ["status IN ('captured', 'refunded')", condition, not_among("id", rejected)]
    rest = f"FROM payments WHERE {' AND '.join(filter(None, conditions))} GROUP BY order_id"
    columns = snapshot.read_numbers(["order_id", *sums], rest, [])
    order = np.argsort(columns[0], kind="stable")
    return Payments(*(column[order] for column in columns))


def dialect_of(snapshot: Snapshot) -> dict[str, str]:
    return SQLITE if snapshot.vendor == "sqlite" else MYSQL


def not_among(column: str, ids: Iterable[int]) -> str:
    listed = ", ".join(map(str, ids))
    return f"{column} NOT IN ({listed})" if listed else ""


def days_of(quarters: Any, zone: str) -> Any:
    """Return each quarter's day of the calendar in `zone`, as YYYYMMDD."""
    unique, where = np.unique(quarters, return_inverse=True)
    shop = ZoneInfo(zone)
    days = [int(f"{(EPOCH + int(quarter) * QUARTER).astimezone(shop):%Y%m%d}") for quarter in unique]
    return np.array(days, dtype=np.int64)[where]
