"""What a run has to read: the sources' clock, the orders that it touches, and every target's slices.

Without numpy as long as it finds no order: a run with nothing to do would spend a third of its time on the import.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.etl.declarations import Source, Target
from apps.etl.extract.snapshot import Snapshot, open_snapshots
from apps.etl.slices import EVERYTHING, Bounds, Slices, cut
from apps.etl.tables import DIMENSIONS, FACTS, FINGERPRINTED, ORDERS
from apps.etl.warehouse import in_warehouse
from apps.etl.window import ChangeWindow

# Rows of another source, for each order that a slice may have, that it holds at most. The bench's orders have 2.5 lines; with 9.4, as in
# wholesale, a slice of 20 000 orders would hold four times the bytes.
ROWS_PER_ORDER = 3
Snapshots = Mapping[str, Snapshot]


@dataclass
class Swept:
    """What a sweep compared and found. `star`: the segments whose facts are not as they were written, and the orders in them."""

    bounds: list[Bounds] = field(default_factory=list)
    segments: int = 0
    orders: Any = ()
    star: list[int] = field(default_factory=list)
    star_orders: Any = ()


@dataclass(frozen=True)
class Survey:
    """`orders`: ascending ids of the orders to read, None for all; `found`: how many were found in which way, each order once."""

    clock: datetime  # the earliest of the orders' sources
    slices: Mapping[str, Slices]  # by table of the warehouse
    orders: Any = None
    found: Mapping[str, int] = field(default_factory=dict)
    swept: Swept = field(default_factory=Swept)


Sweeping = Callable[[Snapshots, Sequence[int]], Swept]  # the second: ascending ids of orders that will be read anyway


def survey_everything(size: int) -> Survey:
    """Cut the ids of all orders into slices of at most `size`, fewer where they have many rows; those of the dimensions by number alone."""
    with open_order_snapshots() as snapshots:
        slices = slice_orders(snapshots, size)
        clock = earliest_clock(snapshots)
    return Survey(clock, slice_targets(slices, size))


def survey_changes(window: ChangeWindow | None, sweep: Sweeping, size: int) -> Survey:
    """Find the orders that changed in the window, that came due, and that the sweep finds to differ."""
    with open_order_snapshots() as snapshots:
        clock = earliest_clock(snapshots)
        touched = find_touched(snapshots, window) if window else []
        due = in_warehouse(find_due, clock)
        swept = sweep(snapshots, sorted({*touched, *due}))
        orders, found = unite({"window": touched, "due": due, "sweep": swept.orders, "star": swept.star_orders})
        slices = slice_ids(snapshots, orders, size)
    return Survey(clock, slice_targets(slices, size), orders, found, swept)


def find_touched(snapshots: Snapshots, window: ChangeWindow) -> list[int]:
    """Return the ids, ascending, of the orders of which a row of any source changed in the window, also of those that no longer exist."""
    found: set[int] = set()
    for source in FINGERPRINTED:
        snapshot = snapshots[source.alias]
        query = f"SELECT DISTINCT {snapshot.slice_id(source)} FROM {source.table} WHERE {window.condition()}"
        found.update(snapshot.read_integers(query, window.parameters()))
    return sorted(found)


def find_due(cursor: Any, clock: datetime) -> list[int]:
    """Return the ids of orders that were dated in the future when they were read, and are no longer."""
    cursor.execute("SELECT order_id FROM etl_order WHERE look_again_at <= %s ORDER BY 1", [cursor.db.ops.adapt_datetimefield_value(clock)])
    return [row[0] for row in cursor.fetchall()]


def unite(ways: Mapping[str, Any]) -> tuple[Any, dict[str, int]]:
    """Return the ids of all ways, ascending, and how many each way adds to those before it."""
    if not any(len(ids) for ids in ways.values()):
        return (), dict.fromkeys(ways, 0)
    import numpy as np

    orders, found = np.array([], dtype=np.int64), {}
    for way, ids in ways.items():
        known, orders = len(orders), np.union1d(orders, np.array(ids, dtype=np.int64))
        found[way] = len(orders) - known
    return orders, found


def survey_orders(ids: Sequence[int], size: int) -> Survey:
    """Take the orders of these ascending ids, and look for no others."""
    with open_order_snapshots() as snapshots:
        clock, slices = earliest_clock(snapshots), slice_ids(snapshots, ids, size)
    return Survey(clock, slice_targets(slices, size), ids, {"repair": len(ids)})


def open_order_snapshots(wait: bool = True) -> AbstractContextManager[Snapshots]:
    return open_snapshots(FINGERPRINTED, wait)


def earliest_clock(snapshots: Snapshots) -> datetime:
    return min(snapshot.clock for snapshot in snapshots.values())


def slice_targets(orders: Slices, size: int) -> dict[str, Slices]:
    return {fact.table: orders for fact in FACTS} | {target.table: dimension_slices(target, size) for target in DIMENSIONS}


def slice_orders(snapshots: Snapshots, size: int) -> Slices:
    """Cut all orders. A slice is full once any source has its most rows."""
    starts: list[int] = []
    while (end := find_end(snapshots, starts[-1] if starts else None, size)) is not None:
        starts.append(end)
    return cut(starts)


def find_end(snapshots: Snapshots, low: int | None, size: int) -> int | None:
    """Return the order id at which the slice that begins at `low` is full; None where all that is left fits. One order is not cut."""
    end = None
    for source in FINGERPRINTED:
        snapshot = snapshots[source.alias]
        found = snapshot.read_nth_id(source, (low, end), most_rows(source, size))
        if found is not None and found == low:
            found = snapshot.read_nth_id(source, (low + 1, end), 0)
        end = end if found is None else found
    return end


def most_rows(source: Source, size: int) -> int:
    return size if source is ORDERS else size * ROWS_PER_ORDER


def slice_ids(snapshots: Snapshots, ids: Any, size: int) -> Slices:
    """Cut the orders of these ascending ids likewise."""
    if not len(ids):
        return (EVERYTHING,)
    import numpy as np

    from apps.etl.extract.facts import count_rows

    counted = {source: count_rows(snapshots[source.alias], source, ids) for source in FINGERPRINTED if source is not ORDERS}
    totals = {source: np.append(0, rows).cumsum() for source, rows in counted.items()} | {ORDERS: np.arange(len(ids) + 1)}
    starts, end = [], 0
    while (end := max(end + 1, min(last_within(total, end, most_rows(source, size)) for source, total in totals.items()))) < len(ids):
        starts.append(int(ids[end]))
    return cut(starts)


def last_within(totals: Any, start: int, most: int) -> int:
    """Return the last position up to which no more than `most` rows follow `start`. `totals`: ascending, the rows before each position."""
    return int(totals.searchsorted(totals[start] + most, side="right")) - 1


def dimension_slices(target: Target, size: int) -> Slices:
    if not target.is_sliced:
        return (EVERYTHING,)
    with open_snapshots([target.source]) as snapshots:
        return cut(every_nth_id(snapshots[target.source.alias], target.source, size))


def every_nth_id(snapshot: Snapshot, source: Source, size: int) -> list[int]:
    """Walk the primary key: 50 steps of 20 000 over a million orders took 0.2 s on MariaDB."""
    found: list[int] = []
    while (step := snapshot.read_nth_id(source, (found[-1] + 1 if found else None, None), size)) is not None:
        found.append(step)
    return found
