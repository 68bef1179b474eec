"""One slice of a fact's sources as raw batches: all of its rows, or those of the ids that a window touched."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from apps.etl.declarations import Fact, Source
from apps.etl.extract.snapshot import Snapshot, open_snapshots
from apps.etl.metadata import set_metadata
from apps.etl.slices import Bounds, within
from apps.etl.window import ChangeWindow

# MySQL's range optimizer takes about 230 bytes for each id of an IN list and gives up at 8 MB.
IDS_PER_QUERY = 5_000


def extract_fact(fact: Fact, bounds: Bounds, window: ChangeWindow | None) -> dict[str, pa.Table]:
    """Return the slice's raw batches by source table; in a window also the batch `fact.touched` of the ids touched.

    The snapshots stay open together and are opened children first, so that a payment whose order is not there yet cannot be seen. Every
    batch carries the sources' clock.
    """
    with open_snapshots(fact.sources) as snapshots:
        if window is None:
            batches = {source.table: read_slice(snapshots[source.alias], source, bounds) for source in fact.sources}
        else:
            ids = sorted(find_touched(fact, snapshots, window, bounds))
            batches = {source.table: read_ids(snapshots[source.alias], source, ids) for source in fact.sources}
            batches[fact.touched] = pa.table({fact.sliced_by: pa.array(ids, pa.int64())})
        clock = max(snapshot.clock for snapshot in snapshots.values()).isoformat()
    return {name: set_metadata(batch, clock=clock) for name, batch in batches.items()}


def find_touched(fact: Fact, snapshots: Mapping[str, Snapshot], window: ChangeWindow, bounds: Bounds) -> set[int]:
    """Return the ids within `bounds` of which a row of any source changed in the window, also those that no longer exist."""
    found: set[int] = set()
    for source in fact.sources:
        column = source.sliced_by
        # SQLite stores a text even in a column of numbers. No id is one, and a full run rejects the row.
        condition = " AND ".join([window.condition(), f"{column} = {column} + 0", *within(column, bounds)])
        query = f"SELECT DISTINCT {column} FROM {source.table} WHERE {condition}"
        found.update(snapshots[source.alias].read_integers(query, window.parameters()))
    return found


def read_slice(snapshot: Snapshot, source: Source, bounds: Bounds) -> pa.Table:
    """Read the rows of the slice.

    Where they lie together in the table, as in a shop that only grows, they are read in primary key order and not through the index of
    `sliced_by`: 2.1 s for 2.5 million lines in 50 slices, else 3.2 s.
    """
    condition = " AND ".join(within(source.sliced_by, bounds))
    if condition and source.sliced_by != "id":
        lowest, highest, rows = snapshot.read_id_range(source, condition)
        if highest - lowest < 2 * rows:
            condition = f"id BETWEEN {lowest} AND {highest} AND {condition}"
    return snapshot.read(source, condition)


def read_ids(snapshot: Snapshot, source: Source, ids: list[int]) -> pa.Table:
    lists = (", ".join(map(str, chunk)) for chunk in chunks(ids))
    parts = [snapshot.read(source, f"{source.sliced_by} IN ({some})") for some in lists]
    return pa.concat_tables(parts or [snapshot.read(source, "1 = 0")])


def chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), IDS_PER_QUERY):
        yield ids[start : start + IDS_PER_QUERY]
