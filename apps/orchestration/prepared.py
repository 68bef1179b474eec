"""What runs have prepared in the warehouse and not published: found missing, or dropped where nobody will publish it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models import Q

from apps.etl.checks import SHOWN_IDS
from apps.orchestration import clock
from apps.orchestration.models import ACTIVE, Run, Stage, State
from apps.warehouse.prepared import Prepared, drop_prepared, find_tableless, forget_prepared
from techmarket.diagnosis import diagnosed
from techmarket.errors import NoSpace, PreparedLost, Terminal
from techmarket.messages import message

RESUMABLE_FOR = timedelta(hours=1)  # after the run has ended without success


def refuse_lost_tables(run: Run) -> None:
    """Raise PreparedLost, with the tasks to start over, where tables are gone: dropped by hand or after the run had ended, or attached."""
    with diagnosed("dwh"):
        rows = list(Prepared.objects.filter(run_uuid=run.uuid))
        gone = find_tableless(rows)
        forget_prepared(gone)
    there = {(row.fact, row.low) for row in rows if row not in gone}
    lost = [task for task in run.tasks.filter(stage=Stage.PREPARE, state=State.SUCCEEDED) if (task.subject, task.low) not in there]
    if lost:
        error = PreparedLost(message("run.prepared_lost", slices=", ".join(str(task) for task in lost[:SHOWN_IDS])))
        error.tasks = lost
        raise error


def drop_prepared_of(run: Run) -> None:
    with diagnosed("dwh"):
        drop_prepared(Prepared.objects.filter(run_uuid=run.uuid))


def drop_all_prepared() -> None:
    """Drop what other runs have left, and this one before it was planned again: while it is planned, nobody prepares anything."""
    with diagnosed("dwh"):
        drop_prepared(Prepared.objects.all())


def drop_leftovers() -> None:
    """Drop what ended runs have left, once nobody is likely to resume them. A dry run cannot be resumed."""
    with diagnosed("dwh"):
        runs = set(Prepared.objects.values_list("run_uuid", flat=True))
        if not runs:
            return
        recent = Q(dry_run=False, finished_at__gt=clock.now() - RESUMABLE_FOR)
        needed = Run.objects.filter(Q(state__in=ACTIVE) | recent, uuid__in=runs).values_list("uuid", flat=True)
        drop_prepared(Prepared.objects.filter(run_uuid__in=runs - set(needed)))


@contextmanager
def losses_named(run: Run) -> Iterator[None]:
    """Raise PreparedLost, with the tasks to start over, where tables have vanished in the block, whatever the server says of it."""
    try:
        yield
    except (PreparedLost, Terminal):
        refuse_lost_tables(run)
        raise


@contextmanager
def space_given_back(run: Run) -> Iterator[None]:
    """Drop all that the run has prepared where a disk is full; a resume prepares it again."""
    try:
        yield
    except NoSpace:
        drop_prepared_of(run)
        raise
