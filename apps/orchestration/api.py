"""The API for programs, which the command line and Airflow call too. docs/examples/ has five short scripts.

from apps.orchestration import api

run = api.run("full", requested_by="nightly script")
print(run.state, api.row_counts(run)["fact_sales"])
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from apps.etl.declarations import Fact, Kind
from apps.etl.extract.dimensions import extract_dimension
from apps.etl.extract.facts import extract_fact, find_touched
from apps.etl.extract.survey import open_order_snapshots
from apps.etl.metadata import set_metadata
from apps.etl.slices import EVERYTHING
from apps.etl.tables import RAW_FINGERPRINTS, TARGETS
from apps.etl.transform.registry import transform as transform_batches
from apps.etl.transform.rows import Outcome
from apps.etl.window import ChangeWindow
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import UNCLAIMED_AFTER_S, CannotResume, cancel_run, rerun, resume_run, start_run
from apps.orchestration.results import counts_by_table, document
from apps.orchestration.window import Window, shop_date
from apps.orchestration.worker.local import execute_run, report_tasks_of_others
from apps.orchestration.worker.loop import Listener, silent
from apps.orchestration.worker.recovery import reap
from techmarket.connections import LOST, close_connections, close_dead_connections
from techmarket.errors import EtlError

__all__ = [
    "CannotResume",
    "cancel_run",
    "document",
    "execute_run",
    "extract",
    "follow",
    "last",
    "rerun",
    "resume_run",
    "row_counts",
    "run",
    "start_run",
    "transform",
]

POLL_S = 0.3  # between two queries of the ledger
REAP_INTERVAL_S = 15.0
LEDGER_PATIENCE_S = 60.0  # the workers go on without a follower; a server takes a few seconds to restart
CENT = pa.scalar(Decimal("0.01"), pa.decimal128(2, 2))


def run(
    mode: str = Mode.INCREMENTAL,
    requested_by: str = "python",
    days: int | None = None,
    start_date: date | None = None,
    end_date: date | None = None,
    dry_run: bool = False,
    queue: bool = False,
    reread: bool = False,
) -> Run:
    """Start a run and execute it to its end, here or with `queue` on the workers. Its `state` is skipped where another run is active.

    `days`: changes of the last days of the shop's calendar; or from `start_date` to `end_date`, both included. `reread`: a full run that
    reads every order, whatever its fingerprint says. Raises Usage for a window without a meaning, and what stopped the run where it was
    executed here.
    """
    window = Window.from_options(days, start_date, end_date)
    started = start_run(mode, Trigger.API, requested_by, window, dry_run=dry_run, queue=queue, reread=reread)
    if started.is_active and queue:
        return follow(started)
    if started.is_active:
        execute_run(started)
    started.refresh_from_db()
    return started


def extract(table: str, days: int | None = None) -> dict[str, pd.DataFrame]:
    """Return the raw rows that make one table of the warehouse, by source table: text, integers, money as Decimal. Nothing is saved.

    `days`: for a fact, only the rows that changed in the last days of the shop's calendar.
    """
    target = TARGETS[table]
    requested = Window.last_days(days) if days else None
    window = ChangeWindow(requested.start, requested.end) if requested and requested.start else None
    if isinstance(target, Fact):
        batches = extract_fact(target, EVERYTHING, find_changed_orders(window) if window else None)
        del batches[RAW_FINGERPRINTS]
    else:
        batches = extract_dimension(target)
    money = {column.name for source in target.sources for column in source.columns if column.kind is Kind.MONEY}
    return {name: readable(batch, money).to_pandas(types_mapper=pd.ArrowDtype) for name, batch in batches.items()}


def find_changed_orders(window: ChangeWindow) -> Any:
    with open_order_snapshots() as snapshots:
        return find_touched(snapshots, window)


def readable(batch: pa.Table, money: set[str]) -> pa.Table:
    for position, (name, column) in enumerate(zip(batch.column_names, batch.columns, strict=True)):
        whole = name in money and pa.types.is_integer(column.type)  # kopiykas
        target_type = pa.decimal128(21, 2) if name in money else pa.string() if pa.types.is_binary(column.type) else column.type
        try:
            text = column.cast(pa.string()) if pa.types.is_binary(column.type) else column
            values = pc.multiply(text.cast(pa.decimal128(19, 0)), CENT).cast(target_type) if whole else text.cast(target_type)
        except pa.ArrowInvalid:
            continue  # a value that is not text, or not an amount, is returned as it is
        batch = batch.set_column(position, name, values)
    return batch


def transform(table: str, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> Outcome:
    """Transform plain rows by source table into clean rows of one warehouse table, and rejects. Uses no database.

    A column that a row does not have is NULL there. Instants are UTC.
    """
    batches = {
        source.table: pa.table({column.name: texts(rows.get(source.table, ()), column.name) for column in source.columns})
        for source in TARGETS[table].sources
    }
    now = datetime.now(UTC)  # by this machine's clock: no database is asked, and nothing is stored
    batches = {name: set_metadata(batch, clock=now.isoformat()) for name, batch in batches.items()}
    return transform_batches(table, batches, settings.SHOP_TIME_ZONE, shop_date(now))


def texts(rows: Sequence[Mapping[str, object]], name: str) -> pa.Array:
    values = [row.get(name) for row in rows]
    words = [None if value is None else str(int(value) if isinstance(value, bool) else value).encode() for value in values]
    return pa.array(words, pa.binary())


def follow(run: Run, listener: Listener = silent, unclaimed: Callable[[Run], None] | None = None) -> Run:
    """Wait until a run that workers execute has ended. Call `listener` for tasks as they end, `unclaimed` if no worker takes the run."""
    started = reaped = answered = time.monotonic()
    reported: set[int] = set()
    while run.is_active:
        now = time.monotonic()
        try:
            report_tasks_of_others(run, listener, reported)
            if unclaimed and run.state == State.QUEUED and now - started > UNCLAIMED_AFTER_S:
                unclaimed(run)
                unclaimed = None
            if now - reaped > REAP_INTERVAL_S:
                reaped = now
                with suppress(EtlError):  # of the warehouse, which the run's workers will name
                    reap()
            time.sleep(POLL_S)
            run.refresh_from_db()
            answered = time.monotonic()
        except LOST:
            if now - answered > LEDGER_PATIENCE_S:
                raise
            close_connections()
            time.sleep(POLL_S)
    return run


def last(mode: str | None = None, state: str | None = None) -> Run | None:
    """Return the latest run, of this mode and in this state where given."""
    close_dead_connections()
    filters = {"mode": mode, "state": state}
    return Run.objects.filter(**{name: value for name, value in filters.items() if value}).first()


def row_counts(run: Run) -> dict[str, dict[str, int]]:
    """Return read, loaded, inserted, updated, unchanged, deleted, filtered, rejected and derived rows by table."""
    return counts_by_table(run) if not run.dry_run else dict[str, Any](document(run)["tables"])
