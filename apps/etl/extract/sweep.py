"""The sweep: find the orders whose rows in the sources are not those that were read, whatever their `updated_at` says.

Fingerprints of 1 024 orders are compared in one sum first, and order by order only where these sums differ. Both source databases and the
warehouse add up at the same time.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from apps.etl.declarations import Source
from apps.etl.extract.facts import chunks
from apps.etl.extract.snapshot import Snapshot
from apps.etl.extract.survey import Swept
from apps.etl.slices import EVERYTHING, SEGMENT, Bounds, cut, inside, within
from apps.etl.star import sum_star
from apps.etl.sums import NOTHING, Sums, add_up, segment_bounds, sum_by, to_columns
from apps.etl.tables import FACTS, ORDER_SOURCES
from apps.etl.warehouse import in_thread, in_warehouse

# Segments that are compared at once: 262 144 orders, about half a second. The newest are always among those of an incremental run.
SEGMENTS_PER_STEP = 256
# Of more orders that are known to differ, it costs less to find them again than to ask for the sums of each.
MOST_KNOWN = 50_000
# Where more of the segments differ, it costs less to add up every order than to ask for ranges of ids.
MANY, RANGES_PER_QUERY = 0.25, 50

ByColumn = Mapping[str, Sums]  # by column of etl_order
Condition = Callable[[Snapshot, Source], str]


class Sweep:
    """A sweep in the snapshots of a plan. `known`: ascending ids of orders that will be read anyway, and need no finding."""

    def __init__(self, snapshots: Mapping[str, Snapshot], known: Any):
        self.snapshots = snapshots
        self.known = np.array(known, dtype=np.int64)
        self.swept = Swept(orders=NOTHING, star_orders=NOTHING)

    def everything(self) -> Swept:
        """Compare all orders with the sources, and all facts with what was written."""
        with ThreadPoolExecutor(1) as thread:
            star = thread.submit(in_thread, find_changed_facts)
            self.compare(EVERYTHING)
            self.swept.star, self.swept.star_orders = star.result()
        return self.swept

    def for_seconds(self, seconds: float) -> Swept:
        """Compare the newest orders, then those that were proven the longest ago, until the time is up."""
        until = time.monotonic() + seconds
        for bounds in in_warehouse(find_steps) if seconds else ():
            if self.swept.bounds and time.monotonic() > until:
                break
            self.compare(bounds)
        return self.swept

    def compare(self, bounds: Bounds) -> None:
        known = self.known[inside(self.known, bounds)]
        if len(known) > MOST_KNOWN:
            known = NOTHING
        source, stored = self.sum_ranges(True, [bounds])
        segments = np.unique(np.concatenate([sums.keys for each in (source, stored) for sums in each.values()]))
        differing = find_differing(minus_known(source, self.sum_ids(known)), minus_known(stored, in_warehouse(sum_stored_ids, known)))
        if len(differing):
            many = len(differing) > MANY * len(segments)
            ranges = [bounds] if many else [segment_bounds(int(segment)) for segment in differing]
            self.swept.orders = np.union1d(self.swept.orders, np.setdiff1d(self.find_orders(ranges), self.known))
        self.swept.bounds.append(bounds)
        self.swept.segments += len(segments)

    def find_orders(self, ranges: list[Bounds]) -> Any:
        found = [NOTHING]
        for start in range(0, len(ranges), RANGES_PER_QUERY):
            source, stored = self.sum_ranges(False, ranges[start : start + RANGES_PER_QUERY])
            found.append(find_differing(source, stored))
        return np.unique(np.concatenate(found))

    def sum_ranges(self, by_segment: bool, ranges: list[Bounds]) -> tuple[ByColumn, ByColumn]:
        """Return the fingerprints of the sources, and those that are stored."""
        with ThreadPoolExecutor(1) as thread:
            stored = thread.submit(in_thread, sum_stored, by_segment, ranges)
            source = self.sum_sources(by_segment, lambda snapshot, source: any_of(snapshot.within(source, bounds) for bounds in ranges))
            return source, stored.result()

    def sum_ids(self, ids: Any) -> ByColumn:
        sums = [self.sum_sources(False, partial(among, ids=some)) for some in chunks(ids.tolist())]
        return {column: add_up([each[column] for each in sums]) for column in ORDER_SOURCES}

    def sum_sources(self, by_segment: bool, condition: Condition) -> ByColumn:
        """Return the fingerprints of the rows that meet the condition, from all databases at once."""
        with ThreadPoolExecutor(len(ORDER_SOURCES)) as threads:
            futures = {column: threads.submit(self.sum_rows, sources, by_segment, condition) for column, sources in ORDER_SOURCES.items()}
            return {column: future.result() for column, future in futures.items()}

    def sum_rows(self, sources: Iterable[Source], by_segment: bool, condition: Condition) -> Sums:
        return add_up(
            [
                self.snapshots[source.alias].sum_fingerprints(source, by_segment, condition(self.snapshots[source.alias], source))
                for source in sources
            ]
        )


def among(snapshot: Snapshot, source: Source, ids: list[int]) -> str:
    return snapshot.among(source, ids)


def any_of(conditions: Iterable[str]) -> str:
    """Join with OR; no condition at all where one of them is empty."""
    listed = list(conditions)
    return " OR ".join(f"({each})" for each in listed) if all(listed) else ""


def minus_known(sums: ByColumn, known: ByColumn) -> ByColumn:
    return {column: each.minus(known[column].by_segment()) for column, each in sums.items()}


def find_differing(one: ByColumn, other: ByColumn) -> Any:
    return np.unique(np.concatenate([one[column].differing(other[column]) for column in ORDER_SOURCES]))


# --- The warehouse's side ---


def find_steps(cursor: Any) -> list[Bounds]:
    """Return the ranges of ids to compare, in this order: the newest orders, then those that were proven the longest ago."""
    cursor.execute("SELECT segment, proven_at FROM etl_segment ORDER BY segment")
    rows = cursor.fetchall()
    groups = [rows[max(0, end - SEGMENTS_PER_STEP) : end] for end in range(len(rows), 0, -SEGMENTS_PER_STEP)][::-1]
    *older, newest = cut(segment_bounds(group[0][0])[0] or 0 for group in groups[1:])  # the first and the last are open
    ages = [min(str(proven_at or "") for _, proven_at in group) for group in groups]
    return [newest, *(bounds for _, bounds in sorted(zip(ages, older, strict=False), key=lambda each: each[0]))]


def sum_stored(cursor: Any, by_segment: bool, ranges: list[Bounds]) -> ByColumn:
    condition = any_of(" AND ".join(within("order_id", bounds)) for bounds in ranges)
    return read_stored(cursor, f"order_id / {SEGMENT}" if by_segment else "order_id", condition)


def sum_stored_ids(cursor: Any, ids: Any) -> ByColumn:
    sums = [read_stored(cursor, "order_id", f"order_id IN ({', '.join(map(str, some))})") for some in chunks(ids.tolist())]
    return {column: add_up([each[column] for each in sums]) for column in ORDER_SOURCES}


def read_stored(cursor: Any, key: str, condition: str) -> ByColumn:
    totals = ", ".join(f"CAST(SUM({column}) AS bigint)" for column in ORDER_SOURCES)
    cursor.execute(f"SELECT {key}, {totals} FROM etl_order" + (f" WHERE {condition}" if condition else "") + " GROUP BY 1")
    keys, *sums = to_columns(cursor.fetchall(), 1 + len(ORDER_SOURCES))
    return {column: sum_by(keys, each) for column, each in zip(ORDER_SOURCES, sums, strict=True)}


def find_changed_facts(cursor: Any) -> tuple[list[int], Any]:
    """Return the segments whose facts are not as they were written, and the ids of all orders in them, stored or in a fact."""
    cursor.execute("SELECT segment, star FROM etl_segment")
    written = sum_by(*to_columns(cursor.fetchall(), 2))
    segments = sum_star(cursor).differing(written).tolist()
    orders = [NOTHING]
    for table, column in (("etl_order", "order_id"), *((fact.table, fact.sliced_by) for fact in FACTS)) if segments else ():
        cursor.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} / {SEGMENT} IN ({', '.join(map(str, segments))})")
        orders.append(to_columns(cursor.fetchall(), 1)[0])
    return segments, np.unique(np.concatenate(orders))
