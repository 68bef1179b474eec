"""The API for programs, which the command line and Airflow call too. docs/examples/ has five short scripts.

from apps.orchestration import api

run = api.run("full", requested_by="nightly script")
print(run.state, api.row_counts(run)["fact_sales"])
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Any

from apps.etl.tables import TARGETS
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.requests import UNCLAIMED_AFTER_S, CannotResume, cancel_run, rerun, resume_run, start_run
from apps.orchestration.results import counts_by_table, document
from apps.orchestration.window import Window
from apps.orchestration.worker.local import Reported, execute_run, report_tasks_of_others
from apps.orchestration.worker.loop import Listener, silent
from apps.orchestration.worker.recovery import reap
from techmarket.connections import LOST, close_connections, close_dead_connections
from techmarket.errors import EtlError

if TYPE_CHECKING:
    import pandas as pd

    from apps.etl.transform.rows import Outcome

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


def extract(table: str, days: int | None = None) -> "dict[str, pd.DataFrame]":
    """Return the raw rows that make one table of the warehouse, by source table: text, integers, money as Decimal. Nothing is saved.

    `days`: for a fact, only the rows that changed in the last days of the shop's calendar.
    """
    from apps.orchestration.frames import extract_frames  # pandas and Arrow: half a second, which no command needs

    return extract_frames(TARGETS[table], days)


def transform(table: str, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> "Outcome":
    """Transform plain rows by source table into clean rows of one warehouse table, and rejects. Uses no database.

    A column that a row does not have is NULL there. Instants are UTC.
    """
    from apps.orchestration.frames import transform_rows  # as above

    return transform_rows(TARGETS[table], rows)


def follow(run: Run, listener: Listener = silent, unclaimed: Callable[[Run], None] | None = None) -> Run:
    """Wait until a run that workers execute has ended. Call `listener` for tasks as they end, `unclaimed` if no worker takes the run."""
    started = reaped = answered = time.monotonic()
    reported = Reported()
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
