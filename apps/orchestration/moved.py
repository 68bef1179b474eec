"""Rows that moved to an order of another slice between the snapshots in which the two slices were read: both have them."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from django.db.models import F

from apps.etl.checks import SHOWN_IDS
from apps.etl.declarations import Fact, Source
from apps.etl.extract.facts import slice_ids
from apps.etl.slices import EVERYTHING, NO_ID, Bounds, cut, inside, overlap
from apps.etl.sums import NOTHING
from apps.etl.tables import FACTS
from apps.orchestration.batches import open_batch
from apps.orchestration.models import Batch, Run, Stage, Task
from techmarket.errors import RowsMoved
from techmarket.messages import message

# All 4 million ids at once took 64 MB, and of a billion lines would take 16 GB.
IDS_AT_ONCE = 1_000_000
SAMPLED = 1_000  # one of so many ids of a batch tells where the ranges may end


def refuse_moved_rows(run: Run) -> None:
    """Raise RowsMoved, with the tasks to start over, where two slices have the same row. Money would count twice, or a key.

    A row in neither of them is found by the next run: the stored fingerprints are of the rows that were read.
    """
    for fact in FACTS:
        for source in fact.sources:
            if source.sliced_by != "id":  # an order cannot move
                refuse_shared_rows(run, fact, source)


def refuse_shared_rows(run: Run, fact: Fact, source: Source) -> None:
    batches = find_raw_batches(run, fact, source)
    if len(batches) < 2:
        return
    shared, slices = list[int](), set[int | None]()
    for bounds, some in share_out(batches, source):
        found = find_shared({batch.low: read_row_ids(batch, source, bounds) for batch in some})
        shared += found[0]
        slices |= found[1]
    if slices:
        error = RowsMoved(message("run.rows_moved", table=source.table, ids=", ".join(map(str, shared[:SHOWN_IDS]))))
        error.tasks = [task for task in run.tasks.filter(subject=fact.table) if any(holds(task, low) for low in slices)]
        raise error


def find_raw_batches(run: Run, fact: Fact, source: Source) -> list[Any]:
    """Return the batches of a source's rows, each with its slice's `low`."""
    raw = run.batches.filter(task__stage=Stage.EXTRACT, task__subject=fact.table, name=source.table)
    return list(raw.annotate(low=F("task__low")).defer("body"))


def share_out(batches: list[Any], source: Source) -> Iterator[tuple[Bounds, list[Any]]]:
    """Yield ranges of row ids of about IDS_AT_ONCE rows each, with the batches that have such rows. Rows of one slice are mostly in one."""
    if sum(batch.rows for batch in batches) <= IDS_AT_ONCE:
        yield EVERYTHING, batches
        return
    ends, samples = list[Bounds](), [NOTHING]
    for batch in batches:
        ids = np.sort(read_row_ids(batch, source))
        ends.append((int(ids[0]), int(ids[-1]) + 1) if len(ids) else (0, 0))
        samples.append(ids[::SAMPLED].copy())  # a view would hold all of them
    edges = np.sort(np.concatenate(samples))[IDS_AT_ONCE // SAMPLED :: IDS_AT_ONCE // SAMPLED]
    for bounds in cut(np.unique(edges).tolist()):
        yield bounds, [batch for batch, own in zip(batches, ends, strict=True) if overlap(own, bounds)]


def holds(task: Task, low: int | None) -> bool:
    """Return True if the slice that begins at `low` is the task's, or part of it."""
    if low is None or task.low is None:
        return task.low is None and (low is None or (task.stage == Stage.PREPARE and (task.high is None or low < task.high)))
    return task.low <= low and (task.high is None or low < task.high)


def read_row_ids(batch: Batch, source: Source, bounds: Bounds = EVERYTHING) -> Any:
    """Return the ids within `bounds` of a raw batch's rows; of the other columns nothing is decompressed: 2.5 million lines take 0.1 s."""
    position = [column.name for column in source.columns].index("id")
    ids = slice_ids(open_batch(batch, [position])["id"])
    return ids[(ids != NO_ID) & inside(ids, bounds)]


def find_shared(ids: dict[int | None, Any]) -> tuple[list[int], set[int | None]]:
    """Return the ids that several slices have, and these slices."""
    repeated = find_repeated(ids.values())
    held = {low: np.unique(each[np.isin(each, repeated)]) for low, each in ids.items()} if len(repeated) else {}
    shared = find_repeated(held.values())  # without those that one slice has twice
    return shared.tolist(), {low for low, each in held.items() if np.isin(each, shared).any()}


def find_repeated(arrays: Iterable[Any]) -> Any:
    """Sorting, stable, takes 0.02 s for 2.5 million ids that mostly ascend; np.unique, which hashes, 9 s."""
    ordered = np.sort(np.concatenate([NOTHING, *arrays]), kind="stable")
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
