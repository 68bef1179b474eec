"""The star's side: sales as fact_sales has them, with the natural keys of its dimensions."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from apps.etl.reconcile.numbers import CHECKSUM, CHECKSUMS, MODULUS, MONEY, NUMBERS, WEIGHT, Orders
from apps.etl.sums import NOTHING, to_columns

pa.enable_signal_handlers(False)  # see extract/columns.py
# Sums of a column: of UAH in kopiykas, of whole numbers, and modulo MODULUS.
POSTGRESQL = {
    "kopiykas": "CAST(SUM({}) * 100 AS bigint)",
    "whole": "CAST(SUM({}) AS bigint)",
    "checksum": f"CAST(SUM({{}}) % {MODULUS} AS bigint)",
}
SQLITE = {
    "kopiykas": "CAST(SUM(ROUND({} * 100)) AS INTEGER)",
    "whole": "CAST(SUM({}) AS INTEGER)",
    "checksum": f"SUM(CAST(ROUND({{}}) AS INTEGER) % {MODULUS}) % {MODULUS}",
}
DIMENSIONS = ("product", "customer", "employee", "region")


def read_star_days(cursor: Any, condition: str) -> dict[int, dict[str, int]]:
    """Return the totals of each day, YYYYMMDD, of the facts `f` that meet `condition`: "orders" and NUMBERS."""
    days, *totals = fetch_columns(cursor, build_query(cursor.db.vendor, "f.date_key", "COUNT(DISTINCT f.order_id)", condition))
    rows = zip(*(total.tolist() for total in (totals[0], *to_numbers(totals[1:]).values())), strict=True)
    return {day: dict(zip(("orders", *NUMBERS), row, strict=True)) for day, row in zip(days.tolist(), rows, strict=True)}


def read_star_orders(cursor: Any, condition: str) -> Orders:
    """Return one row per order of the facts `f` that meet `condition`."""
    ids, day, *sums = fetch_columns(cursor, build_query(cursor.db.vendor, "f.order_id", "MIN(f.date_key)", condition))
    return Orders(ids, day, to_numbers(sums))


def to_numbers(sums: list[Any]) -> dict[str, Any]:
    """Name the sums. SQL's remainder of a negative sum is negative, numpy's is not."""
    named = dict(zip(NUMBERS, sums, strict=True))
    return named | {name: named[name] % MODULUS for name in CHECKSUMS}


def build_query(vendor: str, key: str, first: str, condition: str) -> str:
    """Return the query of NUMBERS by `key`, with `first` before them. A fact of an unknown member counts its natural key as 0."""
    dialect = POSTGRESQL if vendor == "postgresql" else SQLITE
    product = "COALESCE(product.product_id, 0)"
    amounts = {name: f"f.{name}_amount" for name in ("gross", "discount", "net")}
    whole = {
        "lines": "1",
        "quantity": "f.quantity",
        "line_ids": "f.order_item_id",
        "product_ids": product,
        "days": "f.date_key",
        "customers": "COALESCE(customer.customer_id, 0)",
        "employees": "COALESCE(employee.employee_id, 0)",
        "regions": "COALESCE(region.region_id, 0)",
        "shipped": "CASE WHEN f.order_status = 'shipped' THEN 1 ELSE 0 END",
    }
    terms = {name: dialect["whole"].format(each) for name, each in whole.items()}
    terms |= {name: dialect["kopiykas"].format(f"f.{name}_amount") for name in MONEY}
    content = CHECKSUM.format(**amounts, quantity="f.quantity", product=product)
    terms["checksum"] = dialect["checksum"].format(f"(f.order_item_id % {WEIGHT}) * ({content})")
    terms["paid_checksum"] = dialect["checksum"].format(f"(f.order_id % {WEIGHT}) * 100 * f.paid_amount")
    sums = ", ".join(terms[name] for name in NUMBERS)
    joins = " ".join(f"LEFT JOIN dim_{name} AS {name} ON {name}.{name}_key = f.{name}_key" for name in DIMENSIONS)
    return f"SELECT {key}, {first}, {sums} FROM fact_sales AS f {joins} WHERE {condition} GROUP BY {key} ORDER BY 1"


def fetch_columns(cursor: Any, query: str) -> list[Any]:
    """Return int64 columns: on PostgreSQL by COPY, a fifth of the time that a Python object for each value takes."""
    width = 2 + len(NUMBERS)
    if cursor.db.vendor == "sqlite":
        cursor.execute(query)
        return list(to_columns(cursor.fetchall(), width))
    with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv)") as stream:
        text = b"".join(bytes(part) for part in stream)
    if not text:
        return [NOTHING] * width
    names = [str(number) for number in range(width)]
    table = csv.read_csv(io.BytesIO(text), csv.ReadOptions(column_names=names, use_threads=False))
    return [column.to_numpy() for column in table.columns]
