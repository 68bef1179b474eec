"""Rows that moved to an order of another slice between the snapshots in which the two slices were read: both have them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from apps.etl.checks import SHOWN_IDS
from apps.etl.declarations import Fact, Source
from apps.etl.extract.facts import slice_ids
from apps.etl.slices import NO_ID
from apps.etl.sums import NOTHING
from apps.etl.tables import FACTS
from apps.orchestration.batches import open_batch
from apps.orchestration.models import Batch, Run, Stage, Task
from techmarket.errors import RowsMoved
from techmarket.messages import message


def refuse_moved_rows(run: Run) -> None:
    """Raise RowsMoved, with the tasks to start over, where two slices have the same row. Money would count twice, or a key.

    A row in neither of them is found by the next run: the stored fingerprints are of the rows that were read.
    """
    for fact in FACTS:
        for source in fact.sources:
            if source.sliced_by != "id":  # an order cannot move
                refuse_shared_rows(run, fact, source)


def refuse_shared_rows(run: Run, fact: Fact, source: Source) -> None:
    in_slices = run.batches.filter(task__stage=Stage.EXTRACT, task__subject=fact.table, name=source.table).defer("body")
    batches = list(in_slices.select_related("task"))
    if len(batches) < 2:
        return
    ids = {batch.task.low: read_row_ids(batch, source) for batch in batches}
    shared, slices = find_shared(ids)
    if slices:
        error = RowsMoved(message("run.rows_moved", table=source.table, ids=", ".join(map(str, shared[:SHOWN_IDS]))))
        error.tasks = [task for task in run.tasks.filter(subject=fact.table) if any(holds(task, low) for low in slices)]
        raise error


def holds(task: Task, low: int | None) -> bool:
    """Return True if the slice that begins at `low` is the task's, or part of it."""
    if low is None or task.low is None:
        return task.low is None and (low is None or (task.stage == Stage.PREPARE and (task.high is None or low < task.high)))
    return task.low <= low and (task.high is None or low < task.high)


def read_row_ids(batch: Batch, source: Source) -> Any:
    """Return the ids of a raw batch's rows; of the other columns nothing is decompressed: 2.5 million lines take 0.1 s."""
    position = [column.name for column in source.columns].index("id")
    ids = slice_ids(open_batch(batch, [position])["id"])
    return ids[ids != NO_ID]


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
