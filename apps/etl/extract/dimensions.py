"""One slice of a dimension's sources as raw batches, unless the warehouse has it already."""

import zlib
from collections.abc import Mapping

import pyarrow as pa

from apps.etl.declarations import Source, Target
from apps.etl.extract.snapshot import Snapshot, open_snapshots
from apps.etl.metadata import set_metadata
from apps.etl.slices import EVERYTHING, Bounds, within


def extract_dimension(target: Target, bounds: Bounds = EVERYTHING, loaded_fingerprint: str = "") -> dict[str, pa.Table]:
    """Return the slice's raw batches by source table; none where its fingerprint still is `loaded_fingerprint`.

    The batch of the first source carries the fingerprint.
    """
    with open_snapshots(target.sources) as snapshots:
        fingerprint = compute_fingerprint(target, snapshots, bounds)
        if fingerprint and fingerprint == loaded_fingerprint:
            return {}
        batches = {source.table: snapshots[source.alias].read(source, slice_condition(source, bounds)) for source in target.sources}
    return batches | {target.source.table: set_metadata(batches[target.source.table], fingerprint=fingerprint)}


def compute_fingerprint(target: Target, snapshots: Mapping[str, Snapshot], bounds: Bounds) -> str:
    """Return the fingerprint of the source rows and of the columns read; empty where a source gives none."""
    parts = [snapshots[source.alias].read_fingerprint(source, slice_condition(source, bounds)) for source in target.sources]
    return "; ".join([*parts, f"columns {zlib.crc32(repr(target).encode())}"]) if all(parts) else ""


def slice_condition(source: Source, bounds: Bounds) -> str:
    return " AND ".join(within(source.sliced_by, bounds))
