"""Compare both sides: totals by day, the orders that differ, down to the line, and orders against their payments."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import cycle
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from apps.etl.extract.brake import NoPlace
from apps.etl.extract.facts import chunks
from apps.etl.extract.snapshot import Snapshot
from apps.etl.extract.survey import every_nth_id, find_touched, open_order_snapshots
from apps.etl.reconcile.lines import LineDifference, find_line_differences
from apps.etl.reconcile.numbers import CHECKSUMS, MODULUS, NUMBERS, SHOWN, WEIGHT, Orders
from apps.etl.reconcile.payments import Mismatches, find_mismatches, join_mismatches
from apps.etl.reconcile.sources import Payments, read_payments, read_sales
from apps.etl.reconcile.star import read_star_days, read_star_orders
from apps.etl.slices import EVERYTHING, Bounds, cut, inside, within
from apps.etl.sums import NOTHING, align
from apps.etl.tables import ORDERS, PAYMENTS
from apps.etl.warehouse import in_thread, in_warehouse
from apps.etl.window import ChangeWindow

ORDERS_PER_STEP = 50_000
DAYS_BY_ORDER = 62  # of more days that differ, all orders are compared in steps
SHOWN_ORDERS = 500  # compared line by line
LISTED_ORDERS = 10_000  # named; more are counted by day
Listener = Callable[[int, int], None]  # steps done, steps

Totals = dict[int, dict[str, int]]  # YYYYMMDD -> "orders" or one of NUMBERS -> sum


@dataclass(frozen=True)
class Period:
    """Days of the shop's calendar, both included, and the same as instants in UTC."""

    first: date
    last: date
    start: datetime
    end: datetime


def no_ids() -> Any:
    return NOTHING


@dataclass(frozen=True)
class Rejected:
    """Rows that the star rightly lacks: ids and order ids of rejected lines and payments."""

    lines: Any = field(default_factory=no_ids)
    line_orders: Any = field(default_factory=no_ids)
    payments: Any = field(default_factory=no_ids)
    payment_orders: Any = field(default_factory=no_ids)


@dataclass
class OrderDifference:
    """An order in which the sides differ, by its numbers. `changed`: the source has a change of it that is newer than the load."""

    order_id: int
    day: int
    differing: list[str]
    source: dict[str, int]
    star: dict[str, int]
    changed: bool = False
    lines: list[LineDifference] = field(default_factory=list)


@dataclass
class Comparison:
    """`differing`: by day, how many orders differ, and how many of them only because the source has a newer change.

    `compared`: the ids of the period's orders, None where all orders were compared.
    """

    compared: Any = None
    source: Totals = field(default_factory=dict)
    star: Totals = field(default_factory=dict)
    differing: dict[int, int] = field(default_factory=dict)
    changed: dict[int, int] = field(default_factory=dict)
    orders: list[OrderDifference] = field(default_factory=list)
    mismatches: dict[str, Mismatches] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """Orders that are read at once: those within a range of ids, or of a period."""

    sales: str
    parameters: list[str]
    bounds: Bounds = EVERYTHING
    orders: Any = None  # of a period: the ids of all its orders


def compare(zone: str, period: Period | None, rejected: Rejected, mark: datetime | None, listener: Listener) -> Comparison:
    """Compare the orders of `period`, or all. `mark`: the high-water mark of the star; source rows that are newer are changes since."""
    with open_order_snapshots() as snapshots, ThreadPoolExecutor(1) as thread:
        sources = Sources(snapshots, zone, rejected)
        found = Comparison()
        star = thread.submit(in_thread, read_star_days, star_condition(period))
        steps = list(plan_steps(snapshots[ORDERS.alias], period))
        found.compared = steps[0].orders if period else None
        mismatches = []
        listener(0, len(steps) + 1)
        for number, (sales, payments) in enumerate(read_steps(sources, steps)):
            add_totals(found.source, sales)
            mismatches.append(find_mismatches(sales, payments))
            listener(number + 1, len(steps) + 1)
        found.mismatches = join_mismatches(mismatches)
        found.star = star.result()
        days = find_differing_days(found)
        if days:
            changed = np.array(find_touched(snapshots, ChangeWindow(mark)), dtype=np.int64) if mark else NOTHING
            for sales, facts in sources.read_both_sides(steps, days):
                add_differences(found, sales, facts, changed)
            compare_lines(found, snapshots[ORDERS.alias], rejected)
        listener(len(steps) + 1, len(steps) + 1)
    return found


def read_steps(sources: "Sources", steps: list[Step]) -> Iterator[tuple[Orders, Payments]]:
    """Yield what each step reads. Two at a time, since a server adds up a query on one core: on two, shared with the warehouse, a million
    orders took 13.7 instead of 15.3 s, medians of four pairs.

    Every second one is read in other snapshots. What changes between the two can only make a day look different, and its orders are
    then compared in one. Where the sources have no place for these, they are not waited for: two comparisons would wait for each other.
    """
    with ExitStack() as stack:
        readers = [sources]
        if len(steps) > 1:
            with suppress(NoPlace):
                readers.append(Sources(stack.enter_context(open_order_snapshots(wait=False)), sources.zone, sources.rejected))
        threads = stack.enter_context(ThreadPoolExecutor(len(readers)))
        under_way: deque[Future[tuple[Orders, Payments]]] = deque()
        for step, reader in zip(steps, cycle(readers), strict=False):
            if len(under_way) == len(readers):
                yield under_way.popleft().result()
            under_way.append(threads.submit(reader.read, step))
        while under_way:
            yield under_way.popleft().result()


class Sources:
    """The sources' side in one set of snapshots."""

    def __init__(self, snapshots: Mapping[str, Snapshot], zone: str, rejected: Rejected):
        self.orders, self.payments = snapshots[ORDERS.alias], snapshots[PAYMENTS.alias]
        self.zone = zone
        self.rejected = rejected

    def read(self, step: Step) -> tuple[Orders, Payments]:
        """Read both databases at the same time."""
        with ThreadPoolExecutor(1) as thread:
            payments = thread.submit(self.read_payments, step)
            lines = self.rejected.lines[belongs(self.rejected.line_orders, step)]
            sales = read_sales(self.orders, self.zone, step.sales, step.parameters, lines)
            return add_payments(sales, payments.result()), payments.result()

    def read_payments(self, step: Step) -> Payments:
        rejected = self.rejected.payments[belongs(self.rejected.payment_orders, step)]
        if step.orders is None:
            conditions = [" AND ".join(["order_id IS NOT NULL", *within("order_id", step.bounds)])]
        else:
            conditions = [f"order_id IN ({', '.join(map(str, some))})" for some in chunks(step.orders.tolist())]
        parts = [read_payments(self.payments, condition, rejected) for condition in conditions]
        names = Payments.__dataclass_fields__
        return Payments(*(np.concatenate([NOTHING, *(getattr(part, name) for part in parts)]) for name in names))

    def read_both_sides(self, steps: list[Step], days: list[int]) -> Iterator[tuple[Orders, Orders]]:
        """Yield sales and facts by order: of each of the days, or of all steps where there are many days."""
        if len(days) > DAYS_BY_ORDER:
            for step in steps:
                condition = " AND ".join(within("f.order_id", step.bounds)) or "1 = 1"
                yield self.read(step)[0], in_warehouse(read_star_orders, condition)
            return
        for day in days:
            step = step_of(self.orders, day_period(day, self.zone)) if is_date(day) else Step("1 = 0", [], orders=NOTHING)
            facts = in_warehouse(read_star_orders, f"f.date_key = {day}{or_among('f.order_id', step.orders)}")
            ids = np.union1d(step.orders, facts.ids)
            yield self.read(Step(f"o.id IN ({', '.join(map(str, ids.tolist())) or 'NULL'})", [], orders=ids))[0], facts


def add_payments(sales: Orders, payments: Payments) -> Orders:
    mine = np.isin(payments.ids, sales.ids)
    paid = align((payments.captured - payments.refunded)[mine], payments.ids[mine], sales.ids)
    return Orders(sales.ids, sales.day, sales.numbers | {"paid": paid, "paid_checksum": np.fmod(sales.ids, WEIGHT) * paid % MODULUS})


def star_condition(period: Period | None) -> str:
    return f"f.date_key BETWEEN {period.first:%Y%m%d} AND {period.last:%Y%m%d}" if period else "1 = 1"


def plan_steps(orders: Snapshot, period: Period | None) -> Iterator[Step]:
    if period:
        yield step_of(orders, period)
        return
    for bounds in cut(every_nth_id(orders, ORDERS, ORDERS_PER_STEP)):
        yield Step(" AND ".join(within("o.id", bounds)), [], bounds)


def step_of(orders: Snapshot, period: Period) -> Step:
    parameters = [str(instant.astimezone(UTC).replace(tzinfo=None)) for instant in (period.start, period.end)]
    ids = orders.read_integers("SELECT id FROM orders WHERE order_date >= ? AND order_date < ? ORDER BY id", parameters)
    return Step("o.order_date >= ? AND o.order_date < ?", parameters, orders=np.array(ids, dtype=np.int64))


def is_date(day: int) -> bool:
    """Return False for the keys of special members, to which another hand may have set a fact."""
    return 1000_00_00 < day < 1_0000_00_00


def day_period(day: int, zone: str) -> Period:
    first = date(day // 10_000, day // 100 % 100, day % 100)
    start, end = (datetime.combine(each, time(), ZoneInfo(zone)) for each in (first, first + timedelta(days=1)))
    return Period(first, first, start, end)


def or_among(column: str, ids: Any) -> str:
    return f" OR {column} IN ({', '.join(map(str, ids.tolist()))})" if len(ids) else ""


def belongs(orders: Any, step: Step) -> Any:
    return np.isin(orders, step.orders) if step.orders is not None else inside(orders, step.bounds)


def add_totals(totals: Totals, orders: Orders) -> None:
    days, where = np.unique(orders.day, return_inverse=True)
    for name in ("orders", *NUMBERS):
        sums = np.zeros(len(days), dtype=np.int64)
        np.add.at(sums, where, 1 if name == "orders" else orders.numbers[name])
        for day, total in zip(days.tolist(), sums.tolist(), strict=True):
            of_day = totals.setdefault(day, {})
            total += of_day.get(name, 0)
            of_day[name] = total % MODULUS if name in CHECKSUMS else total


def find_differing_days(found: Comparison) -> list[int]:
    return [day for day in sorted({*found.source, *found.star}) if found.source.get(day) != found.star.get(day)]


def add_differences(found: Comparison, sales: Orders, star: Orders, changed: Any) -> None:
    ids = np.union1d(sales.ids, star.ids)
    one = {name: align(sales.numbers[name], sales.ids, ids) for name in NUMBERS}
    other = {name: align(star.numbers[name], star.ids, ids) for name in NUMBERS}
    day = align(sales.day, sales.ids, ids)
    day = np.where(day, day, align(star.day, star.ids, ids))
    differs = {name: one[name] != other[name] for name in NUMBERS}
    named = {order.order_id for order in found.orders}  # an order that the sides have on two days comes twice
    for at in np.flatnonzero(np.any(list(differs.values()), axis=0)).tolist():
        if ids[at] in named:
            continue
        order = OrderDifference(
            int(ids[at]),
            int(day[at]),
            [name for name in NUMBERS if differs[name][at]],
            {name: int(one[name][at]) for name in SHOWN},
            {name: int(other[name][at]) for name in SHOWN},
            changed=bool(np.isin(ids[at], changed)),
        )
        found.differing[order.day] = found.differing.get(order.day, 0) + 1
        found.changed[order.day] = found.changed.get(order.day, 0) + order.changed
        if len(found.orders) < LISTED_ORDERS:
            found.orders.append(order)


def compare_lines(found: Comparison, snapshot: Snapshot, rejected: Rejected) -> None:
    shown = {order.order_id: order for order in found.orders[:SHOWN_ORDERS]}
    if not shown:
        return
    hidden = rejected.lines[np.isin(rejected.line_orders, list(shown))]
    for line in in_warehouse(lambda cursor: find_line_differences(snapshot, cursor, list(shown), hidden)):
        if line.order_id in shown:
            shown[line.order_id].lines.append(line)
