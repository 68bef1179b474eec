"""How a load changes net revenue and payments: by month of the shop's calendar and by cause."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apps.etl.declarations import Fact
from apps.etl.load.copying import analyze, copy, create_stage
from apps.etl.money import sql_sum, uah

UNSOLD_ORDERS = "unsold_orders"  # temporary table: orders that the run has read and that are no sales


class Cause(StrEnum):
    """Why net revenue of a line comes, changes or goes. CANCELLED: its order is a sale no longer. DELETED: the source lacks the line."""

    NEW = "new"
    ACCEPTED = "accepted"  # rejected until now
    CHANGED = "changed"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    REJECTED = "rejected"


LOSSES = (Cause.DELETED, Cause.REJECTED)


@dataclass(frozen=True)
class Change:
    """What one cause does to the net revenue of one month, YYYY-MM, in UAH; by how many lines, of how many orders.

    The brakes count lines that are DELETED, so these are given even where they are worth nothing.
    """

    month: str
    cause: str
    net: Decimal
    lines: int
    orders: int


@dataclass(frozen=True)
class Fall:
    """By how much the payments of orders fell that are still sales, in UAH, in one month; of how many orders."""

    month: str
    paid: Decimal
    orders: int


@dataclass
class Revenue:
    """The changes of a load; and by month concerned, net revenue and payments in UAH before it.

    `net`, `rows`: of the whole fact before it, where it loses anything; the brakes ask for them then.
    """

    changes: list[Change] = field(default_factory=list)
    falls: list[Fall] = field(default_factory=list)
    before: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    net: Decimal = Decimal()
    rows: int = 0

    def of(self, *causes: Cause, month: str = "") -> list[Change]:
        return [change for change in self.changes if change.cause in causes and month in ("", change.month)]

    def net_by_month(self) -> dict[str, tuple[str, str]]:
        """Return UAH before and after, of the months that change."""
        pairs = {month: (net, net + self.net_added(month)) for month, (net, _paid) in sorted(self.before.items())}
        return {month: (str(before), str(after)) for month, (before, after) in pairs.items() if before != after}

    def net_added(self, month: str) -> Decimal:
        return sum((change.net for change in self.changes if change.month == month), Decimal())


COMPARED = ("date_key", "net_amount", "paid_amount")
# Of each line that comes, changes or goes: where and how it was, where and how it will be, and why.
LINES = """
WITH lines AS (
    SELECT COALESCE({order}, old_{order}) AS order_id, old_date_key / 100 AS old_month, date_key / 100 AS new_month,
        {old_net} AS old_net, {net} AS new_net, COALESCE({old_paid}, 0) AS old_paid, COALESCE({paid}, 0) AS new_paid,
        CASE WHEN old_{key} IS NULL AND {key} IN (SELECT {key} FROM {standing}) THEN 'accepted'
            WHEN old_{key} IS NULL THEN 'new'
            WHEN {key} IS NOT NULL THEN 'changed'
            WHEN old_{key} IN (SELECT {key} FROM {rejected}) THEN 'rejected'
            WHEN old_{order} IN (SELECT order_id FROM {unsold}) THEN 'cancelled'
            ELSE 'deleted' END AS cause
    FROM {changed}
)
"""
CHANGES = """
SELECT month, cause, SUM(net), COUNT(*), COUNT(DISTINCT order_id) FROM (
    SELECT order_id, old_month AS month, cause, -old_net AS net FROM lines WHERE old_month IS NOT NULL
    UNION ALL SELECT order_id, new_month, cause, new_net FROM lines WHERE new_month IS NOT NULL
) AS sides GROUP BY month, cause HAVING SUM(net) <> 0 OR cause = 'deleted' ORDER BY month, cause
"""
FALLS = """
SELECT month, SUM(fall), COUNT(*) FROM (
    SELECT MAX(new_month) AS month, SUM(old_paid) - SUM(new_paid) AS fall FROM lines GROUP BY order_id HAVING COUNT(new_month) > 0
) AS orders WHERE fall > 0 GROUP BY month
"""


def stage_unsold_orders(cursor: Any, batches: Iterable[pa.Table], table: str) -> Iterable[pa.Table]:
    """Yield the fingerprints' batches without `is_unsold`, and keep the ids of those orders in UNSOLD_ORDERS. `table`: of the order ids."""
    create_stage(cursor, UNSOLD_ORDERS, table, ["order_id"])
    for batch in batches:
        copy(cursor, UNSOLD_ORDERS, batch.filter(batch["is_unsold"]).select(["order_id"]))
        yield batch.drop_columns(["is_unsold"])


def compare_revenue(cursor: Any, fact: Fact, changed: str, rejected: Iterable[int], standing: Iterable[int]) -> Revenue:
    """Compare how the lines of the `changed` table will be with how they are.

    `rejected`: lines that this run rejects. `standing`: lines that were rejected before it.
    """
    names = {"rejected": f"rejected_{fact.table}", "standing": f"standing_{fact.table}"}
    for name, ids in ((names["rejected"], rejected), (names["standing"], standing)):
        create_stage(cursor, name, fact.table, [fact.key])
        copy(cursor, name, pa.table({fact.key: pa.array(sorted(ids), pa.int64())}))
        analyze(cursor, name)
    amounts = {f"{old}{name}": kopiykas(f"{old}{name}_amount") for old in ("old_", "") for name in ("net", "paid")}
    lines = LINES.format(key=fact.key, order=fact.sliced_by, changed=changed, unsold=UNSOLD_ORDERS, **amounts, **names)
    cursor.execute(lines + CHANGES)
    changes = [Change(name_month(month), cause, uah(int(net)), *counts) for month, cause, net, *counts in cursor.fetchall()]
    cursor.execute(lines + FALLS)
    revenue = Revenue(changes, [Fall(name_month(month), uah(int(fall)), orders) for month, fall, orders in cursor.fetchall()])
    sum_months(cursor, fact, revenue)
    return revenue


def kopiykas(column: str) -> str:
    """Return SQL for whole kopiykas: SQLite stores floats, exact to the kopiyka each; their sum would not be."""
    return f"CAST(ROUND({column} * 100) AS BIGINT)"


def sum_months(cursor: Any, fact: Fact, revenue: Revenue) -> None:
    """Fill in `before`, while the fact is as it was; of a loss also `net` and `rows`: all in one scan."""
    named = {change.month for change in revenue.changes} | {fall.month for fall in revenue.falls}
    months = {int(name.replace("-", "")) for name in named}
    if not months:
        return
    net, paid = (sql_sum(cursor.db.vendor, column) for column in ("net_amount", "paid_amount"))
    has_loss = bool(revenue.of(*LOSSES))
    where = "" if has_loss else f" WHERE date_key BETWEEN {min(months)}00 AND {max(months)}99"
    cursor.execute(f"SELECT date_key / 100, {net}, {paid}, COUNT(*) FROM {fact.table}{where} GROUP BY 1")
    rows = cursor.fetchall()
    sums = {month: (Decimal(net), Decimal(paid)) for month, net, paid, _count in rows}
    nothing = (Decimal("0.00"), Decimal("0.00"))
    revenue.before = {name_month(month): sums.get(month, nothing) for month in months}
    if has_loss:
        revenue.net, revenue.rows = sum((net for net, _paid in sums.values()), Decimal()), sum(row[-1] for row in rows)


def name_month(month: int) -> str:
    return f"{month // 100}-{month % 100:02}"


class NewRevenue:
    """The revenue of an empty fact's first rows, summed while they are packed."""

    def __init__(self, fact: Fact, sums: Mapping[int, list[int]] | None = None):
        self.fact = fact
        self.sums = dict(sums or {})  # month, YYYYMM -> net in kopiykas, lines, orders
        self.last_order: int | None = None

    def add(self, rows: pa.Table) -> None:
        """Add rows, of which those of one order are adjacent, or go on with those that were added last."""
        months, at = np.unique(rows["date_key"].to_numpy() // 100, return_inverse=True)
        orders = rows[self.fact.sliced_by].to_numpy()
        first = np.r_[orders[0] != self.last_order, orders[1:] != orders[:-1]]
        self.last_order = int(orders[-1])
        parts = [whole_kopiykas(rows["net_amount"]), np.ones(len(at), dtype=np.int64), first]
        for position, month in enumerate(months.tolist()):
            sums = [int(part[at == position].sum()) for part in parts]
            self.sums[month] = [one + other for one, other in zip(self.sums.get(month, [0] * len(sums)), sums, strict=True)]

    def revenue(self) -> Revenue:
        revenue = Revenue()
        for month, (net, lines, orders) in sorted(self.sums.items()):
            revenue.changes.append(Change(name_month(month), Cause.NEW, uah(net), lines, orders))
            revenue.before[name_month(month)] = (Decimal("0.00"), Decimal("0.00"))
        return revenue


def whole_kopiykas(amounts: pa.ChunkedArray) -> Any:
    return pc.multiply(amounts, pa.scalar(Decimal(100), pa.decimal128(3, 0))).cast(pa.int64()).to_numpy()
