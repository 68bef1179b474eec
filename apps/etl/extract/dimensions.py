"""One slice of a dimension's sources as raw batches, unless the warehouse has it already."""

import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from apps.etl.declarations import Source, Target
from apps.etl.extract.snapshot import Snapshot, open_snapshots
from apps.etl.metadata import set_metadata
from apps.etl.slices import EVERYTHING, Bounds, Slices, within
from apps.etl.tables import DIMENSIONS

if TYPE_CHECKING:
    import pyarrow as pa


def extract_dimension(target: Target, bounds: Bounds = EVERYTHING, loaded_fingerprint: str = "") -> "dict[str, pa.Table]":
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
    return join_parts(
        target, [snapshots[source.alias].read_fingerprint(source, slice_condition(source, bounds)) for source in target.sources]
    )


def compute_fingerprints(slices: Mapping[str, Slices]) -> dict[tuple[str, Bounds], str]:
    """Return the same of all slices, given by table, of the dimensions that have sources: one query for each source, and all databases at
    once."""
    targets = [target for target in DIMENSIONS if target.sources]
    wanted = {(source, slices[target.table]) for target in targets for source in target.sources}
    with open_snapshots([source for source, _ in wanted]) as snapshots, ThreadPoolExecutor(len(snapshots)) as threads:
        of_database = {alias: [each for each in wanted if each[0].alias == alias] for alias in snapshots}
        found = threads.map(lambda alias: read_parts(snapshots[alias], of_database[alias]), snapshots)
        parts = {key: part for each in found for key, part in each.items()}
    return {
        (target.table, bounds): join_parts(target, [parts[source, bounds] for source in target.sources])
        for target in targets
        for bounds in slices[target.table]
    }


def read_parts(snapshot: Snapshot, wanted: Iterable[tuple[Source, Slices]]) -> dict[tuple[Source, Bounds], str]:
    parts: dict[tuple[Source, Bounds], str] = {}
    for source, slices in wanted:
        parts |= {(source, bounds): part for bounds, part in zip(slices, snapshot.read_fingerprints(source, slices), strict=True)}
    return parts


def join_parts(target: Target, parts: list[str]) -> str:
    return "; ".join([*parts, f"columns {zlib.crc32(repr(target).encode())}"]) if all(parts) else ""


def slice_condition(source: Source, bounds: Bounds) -> str:
    return " AND ".join(within(source.sliced_by, bounds))
