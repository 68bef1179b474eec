"""Runs for programs: what the command line, the admin and Airflow call. docs/examples/ has five short scripts.

from apps.orchestration import api

done = api.run("full", asked_by="nightly script")
print(done.state, api.row_counts(done)["fact_sales"])
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from apps.etl.declarations import Fact, Kind
from apps.etl.extract.dimensions import extract_dimension
from apps.etl.extract.facts import extract_fact
from apps.etl.metadata import set_metadata
from apps.etl.slices import EVERYTHING
from apps.etl.tables import TARGETS
from apps.etl.transform.registry import transform as transform_batches
from apps.etl.transform.rows import Outcome
from apps.etl.window import Window
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import CannotResume, cancel, resume
from apps.orchestration.requests import ask as start
from apps.orchestration.requests import ask_again as rerun
from apps.orchestration.results import counts_by_table, document
from apps.orchestration.window import between, last_days, today
from apps.orchestration.worker.loop import Listener, carry_out, silent, tell_of_others
from apps.orchestration.worker.recovery import reap

__all__ = [
    "CannotResume",
    "cancel",
    "carry_out",
    "document",
    "extract",
    "follow",
    "last",
    "rerun",
    "resume",
    "row_counts",
    "run",
    "start",
    "transform",
]

POLL = 0.3  # seconds between two looks at the ledger
PATIENCE = 10.0  # seconds before a run that nobody has taken is worth a word
REAP = 15.0
CENT = pa.scalar(Decimal("0.01"), pa.decimal128(2, 2))


def run(
    mode: str = Mode.INCREMENTAL,
    asked_by: str = "python",
    days: int | None = None,
    start_date: date | None = None,
    end_date: date | None = None,
    dry_run: bool = False,
    queue: bool = False,
) -> Run:
    """A whole run, to its end: here, or with `queue` at the workers. Skipped where another is active; look at its `state`.

    `days`: the last business days; or from `start_date` to `end_date`, included. Raises what stopped it, where it was carried out here.
    """
    span = last_days(days) if days else between(start_date, end_date or today()) if start_date else (None, None)
    wanted = start(mode, Trigger.API, asked_by, span[0], span[1], dry_run=dry_run, queue=queue)
    if wanted.is_active and queue:
        return follow(wanted)
    if wanted.is_active:
        carry_out(wanted)
    wanted.refresh_from_db()
    return wanted


def extract(table: str, days: int | None = None) -> dict[str, pd.DataFrame]:
    """The raw rows that make one table of the warehouse, by source table: text, integers, money as Decimal. Nothing is kept.

    `days`: of a fact, the rows that changed in the last business days.
    """
    target = TARGETS[table]
    window = Window(*last_days(days)) if days else None
    batches = extract_fact(target, EVERYTHING, window) if isinstance(target, Fact) else extract_dimension(target)
    money = {column.name for source in target.sources for column in source.columns if column.kind is Kind.MONEY}
    return {name: readable(batch, money).to_pandas(types_mapper=pd.ArrowDtype) for name, batch in batches.items()}


def readable(batch: pa.Table, money: set[str]) -> pa.Table:
    for position, (name, column) in enumerate(zip(batch.column_names, batch.columns, strict=True)):
        whole = name in money and pa.types.is_integer(column.type)  # kopiykas
        wanted = pa.decimal128(21, 2) if name in money else pa.string() if pa.types.is_binary(column.type) else column.type
        try:
            text = column.cast(pa.string()) if pa.types.is_binary(column.type) else column
            values = pc.multiply(text.cast(pa.decimal128(19, 0)), CENT).cast(wanted) if whole else text.cast(wanted)
        except pa.ArrowInvalid:
            continue  # what is not text, or no amount, is shown as it is
        batch = batch.set_column(position, name, values)
    return batch


def transform(table: str, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> Outcome:
    """Plain rows by source table into the clean rows of one table of the warehouse, and the rejects. Asks no database.

    A column that a row does not have is NULL there. Instants are UTC.
    """
    batches = {
        source.table: pa.table({column.name: texts(rows.get(source.table, ()), column.name) for column in source.columns})
        for source in TARGETS[table].sources
    }
    clock = datetime.now(UTC).isoformat()
    batches = {name: set_metadata(batch, clock=clock) for name, batch in batches.items()}
    return transform_batches(table, batches, settings.SHOP_TIME_ZONE, today())


def texts(rows: Sequence[Mapping[str, object]], name: str) -> pa.Array:
    values = [row.get(name) for row in rows]
    words = [None if value is None else str(int(value) if isinstance(value, bool) else value).encode() for value in values]
    return pa.array(words, pa.binary())


def follow(run: Run, listener: Listener = silent, unclaimed: Callable[[Run], None] | None = None) -> Run:
    """Wait until a run that workers carry out has ended. Tells `listener` of tasks as they end, `unclaimed` if no worker takes the run."""
    began = reaped = time.monotonic()
    told: set[int] = set()
    while run.is_active:
        tell_of_others(run, listener, told)
        now = time.monotonic()
        if unclaimed and run.state == State.QUEUED and now - began > PATIENCE:
            unclaimed(run)
            unclaimed = None
        if now - reaped > REAP:
            reap()
            reaped = now
        time.sleep(POLL)
        run.refresh_from_db()
    return run


def last(mode: str | None = None, state: str | None = None) -> Run | None:
    """The latest run, of this mode and in this state where given."""
    chosen = {"mode": mode, "state": state}
    return Run.objects.filter(**{name: value for name, value in chosen.items() if value}).first()


def row_counts(run: Run) -> dict[str, dict[str, int]]:
    """By table: read, loaded, inserted, updated, unchanged, deleted, filtered, rejected, derived."""
    return counts_by_table(run) if not run.dry_run else dict[str, Any](document(run)["tables"])
