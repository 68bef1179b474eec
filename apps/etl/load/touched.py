"""The orders that a run replaces, where it does not read all."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa

from apps.etl.load.copying import analyze, copy, create_stage
from apps.etl.load.look_ups import few_looked_up
from apps.etl.tables import ORDER_FINGERPRINTS, TOUCHED_ORDERS

TOUCHED_STAGE = f"stage_{TOUCHED_ORDERS}"


def stage_touched_orders(cursor: Any, batches: Iterable[pa.Table]) -> None:
    create_stage(cursor, TOUCHED_STAGE, ORDER_FINGERPRINTS, ["order_id"])
    for batch in batches:
        copy(cursor, TOUCHED_STAGE, batch)
    analyze(cursor, TOUCHED_STAGE)


def in_scope(reads_everything: bool, column: str) -> str:
    """Return SQL for the rows that the run replaces, by their order id."""
    return "1 = 1" if reads_everything else f"{column} IN (SELECT order_id FROM {TOUCHED_STAGE})"


def looked_up_in(table: str, cursor: Any, reads_everything: bool) -> AbstractContextManager[None]:
    """Let the rows of `in_scope` be looked up in `table`, where they are few."""
    return nullcontext() if reads_everything else few_looked_up(cursor, TOUCHED_STAGE, table)
