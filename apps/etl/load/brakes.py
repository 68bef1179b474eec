"""Brakes: what a run takes out of the warehouse must not exceed a share of it, by rows and by money, unless a person accepts it.

Deletions at the source and rejections count, from the first row on. A cancellation by the shop is neither.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.etl.checks import Result, count_rows
from apps.etl.counts import Counts, Written
from apps.etl.declarations import Fact
from apps.etl.load.revenue import LOSSES, Cause, Change, Revenue
from apps.etl.tables import DIM_DATE, FACT_TABLES, FACTS, FINGERPRINTED, ORDER_FINGERPRINTS, TARGETS
from techmarket.formats import format_uah
from techmarket.messages import Message, message

FEW_ORDERS = 3  # of a past month, which may lose them whatever their share
SOURCES_OF_ORDERS = {source.table for source in FINGERPRINTED}


@dataclass(frozen=True)
class Rejected:
    """Rows of one source table that the run rejects and no run before it did; UAH that the warehouse lacks because of them."""

    rows: int = 0
    amount: Decimal = Decimal()


@dataclass(frozen=True)
class Loaded:
    """What a load did: counts by table, rejects by source table, revenue by fact. `month`: the present one of the shop, YYYY-MM."""

    counts: Mapping[str, Counts]
    written: Mapping[str, Written]
    rejected: Mapping[str, Rejected]
    revenues: Mapping[str, Revenue]
    month: str


def apply_brakes(cursor: Any, loaded: Loaded) -> list[Result]:
    """Return the results of all brakes, once the load has written its rows."""
    results = [check_rejected(cursor, loaded, table) for table in loaded.counts]
    results += [check_deleted(cursor, loaded, table) for table in loaded.written if table != DIM_DATE.table]
    for fact in FACTS:
        if fact.holds_revenue:
            revenue = loaded.revenues[fact.table]
            results += [*check_net(fact, revenue), *check_months(fact, revenue, loaded.month)]
    return results


def check_rejected(cursor: Any, loaded: Loaded, table: str) -> Result:
    """Compare with the rows of the table: those that the run has read, or those that the warehouse has of it where they are more."""
    source = TARGETS[table].source.table if table in TARGETS and TARGETS[table].sources else table
    rejected = loaded.rejected.get(source, Rejected())
    total = loaded.counts[table].read
    if rejected.rows:
        total = max(total, count_before(cursor, loaded, table))
    return check_rows("check.share_rejected", table, rejected.rows, total, settings.ETL_MAX_REJECTED_PERCENT, rejected.amount)


def check_deleted(cursor: Any, loaded: Loaded, table: str) -> Result:
    """Compare with the rows that the table had. Of a fact, only lines count that the source has no more."""
    deleted, amount = loaded.written[table].deleted, Decimal()
    if table in loaded.revenues:
        changes = loaded.revenues[table].of(Cause.DELETED)
        deleted, amount = sum(change.lines for change in changes), lost_net(changes)
    total = count_before(cursor, loaded, table) if deleted else 0
    return check_rows("check.share_deleted", table, deleted, total, settings.ETL_MAX_DELETED_PERCENT, amount)


def check_rows(name: str, table: str, lost: int, total: int, limit: int, amount: Decimal) -> Result:
    observed: Message = count_rows(lost)
    if amount:
        observed = message("rows.uah", rows=observed, amount=format_uah(amount))
    expected = message("share.at_most", share=f"{limit} %", count=total)
    return Result(message(name), table, is_within(lost, total, limit), expected, observed)


def count_before(cursor: Any, loaded: Loaded, table: str) -> int:
    """Return the rows that the warehouse had of the table: current ones of a dimension; orders, for the tables that are read by order."""
    if table in SOURCES_OF_ORDERS:
        cursor.execute(f"SELECT COUNT(*) FROM {ORDER_FINGERPRINTS}")
        return int(cursor.fetchone()[0])
    if table not in TARGETS:
        return 0
    if table in loaded.revenues and (rows := loaded.revenues[table].rows):
        return rows
    current = "" if table in FACT_TABLES else f" WHERE {TARGETS[table].key} > 0 AND NOT is_deleted AND NOT is_inferred"
    cursor.execute(f"SELECT COUNT(*) FROM {table}{current}")
    return int(cursor.fetchone()[0]) + loaded.written[table].deleted - loaded.written[table].inserted


def check_net(fact: Fact, revenue: Revenue) -> Iterator[Result]:
    """Compare the net revenue that deletions take, and that rejections do, with that of the whole fact."""
    limits = {Cause.DELETED: settings.ETL_MAX_DELETED_PERCENT, Cause.REJECTED: settings.ETL_MAX_REJECTED_PERCENT}
    for cause, limit in limits.items():
        if changes := revenue.of(cause):
            orders = sum(change.orders for change in changes)
            yield check_money(f"check.net_{cause}", fact, lost_net(changes), revenue.net, limit, orders)


def check_months(fact: Fact, revenue: Revenue, present: str) -> Iterator[Result]:
    """Compare what deletions and rejections take from a past month, and by how much its payments fall, with what it had."""
    limit = settings.ETL_MAX_MONTH_PERCENT
    for month, (net, paid) in sorted(revenue.before.items()):
        if month >= present:
            continue
        if losses := revenue.of(*LOSSES, month=month):
            orders = sum(change.orders for change in losses)
            yield check_money("check.month_lost", fact, lost_net(losses), net, limit, orders, month)
        for fall in revenue.falls:
            if fall.month == month:
                yield check_money("check.month_paid", fact, fall.paid, paid, limit, fall.orders, month)


def lost_net(changes: Iterable[Change]) -> Decimal:
    return -sum((change.net for change in changes), Decimal())


def check_money(name: str, fact: Fact, lost: Decimal, before: Decimal, limit: int, orders: int, month: str = "") -> Result:
    """Check a share of money. Of a month, losing FEW_ORDERS is an ordinary day."""
    passed = (bool(month) and orders <= FEW_ORDERS) or is_within(lost, before, limit)
    expected = message("share.at_most_uah", share=f"{limit} %", amount=format_uah(before))
    observed = message(
        "brake.worth_of", amount=format_uah(lost), orders=message("orders.one" if orders == 1 else "orders.many", count=orders)
    )
    return Result(message(name, month=month) if month else message(name), fact.table, passed, expected, observed)


def is_within(lost: int | Decimal, total: int | Decimal, limit: int) -> bool:
    """Return True if no more is lost than `limit` percent of the total. Of 100 percent nothing is too much, whatever the total."""
    return limit == 100 or lost * 100 <= limit * total
