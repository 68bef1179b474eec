"""The lines of orders that differ, side by side."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apps.etl.extract.snapshot import Snapshot
from apps.etl.reconcile.sources import dialect_of, sold_lines

COLUMNS = ("order_id", "product_id", "quantity", "gross", "discount", "net")
Line = dict[str, int]


@dataclass(frozen=True)
class LineDifference:
    """A line that only one side has, or a column of it in which they differ. Money is kopiykas; None: the side has no such line."""

    line: int
    order_id: int
    column: str
    source: int | None
    star: int | None


def find_line_differences(snapshot: Snapshot, cursor: Any, orders: list[int], rejected: Iterable[int]) -> list[LineDifference]:
    source, star = read_source_lines(snapshot, orders, rejected), read_star_lines(cursor, orders)
    found = []
    for line in sorted({*source, *star}):
        one, other = source.get(line), star.get(line)
        order = (one or other or {})["order_id"]
        if one is None or other is None:
            found.append(LineDifference(line, order, "", one["net"] if one else None, other["net"] if other else None))
        else:
            found += [LineDifference(line, order, name, one[name], other[name]) for name in COLUMNS if one[name] != other[name]]
    return found


def read_source_lines(snapshot: Snapshot, orders: list[int], rejected: Iterable[int]) -> dict[int, Line]:
    dialect = dialect_of(snapshot)
    amounts = [
        dialect["kopiykas"].format(each) for each in ("i.unit_price * i.quantity", "i.discount", "i.unit_price * i.quantity - i.discount")
    ]
    columns = ["i.id", "MAX(i.order_id)", "MAX(i.product_id)", "MAX(i.quantity)", *amounts]
    rest = f"{sold_lines(f'o.id IN ({", ".join(map(str, orders))})', rejected)} GROUP BY i.id"
    return to_lines(zip(*(column.tolist() for column in snapshot.read_numbers(columns, rest)), strict=True))


def read_star_lines(cursor: Any, orders: list[int]) -> dict[int, Line]:
    money = ", ".join(f"ROUND({name}_amount * 100)" for name in ("gross", "discount", "net"))
    cursor.execute(
        f"SELECT order_item_id, order_id, p.product_id, quantity, {money} FROM fact_sales AS f "
        f"LEFT JOIN dim_product AS p ON p.product_key = f.product_key WHERE order_id IN ({', '.join(map(str, orders))})"
    )
    return to_lines(cursor.fetchall())


def to_lines(rows: Iterable[tuple[Any, ...]]) -> dict[int, Line]:
    return {int(line): dict(zip(COLUMNS, (int(value or 0) for value in values), strict=True)) for line, *values in rows}
