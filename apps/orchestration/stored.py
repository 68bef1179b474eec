"""Deletion from the batch store of what the ledger does not name: batches of old runs, of dry runs, and of attempts that came to no end.

Order decides, not clocks: an attempt writes its objects, to a folder that its claim names, and then records them all in the one
transaction that takes its claim. A folder that was listed, and then neither a row nor a running task has the claim, is nobody's for ever.
"""

from datetime import timedelta
from itertools import batched
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from apps.etl.batch_store import BatchStore, batch_store
from apps.orchestration import clock
from apps.orchestration.models import Attempt, Batch, Run, State
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

log = structlog.get_logger()
RUNS_PER_QUERY = 500  # SQLite takes no more variables than it was built for
GRACE = timedelta(days=1)  # after which nobody resumes a run that has landed nothing


def delete_stored_leftovers() -> None:
    """Delete what no row names. A store that does not answer costs a warning: the next run, or the next day, tries again."""
    try:
        store = batch_store()
        if store is not None:
            with diagnosed("default"):
                delete_leftovers(store)
    except EtlError as error:
        log.warning("batches were not deleted from the batch store", cause=str(error))


def delete_leftovers(store: BatchStore) -> None:
    folders = [folder for folder in store.list_folders() if is_uuid(folder)]  # the rest is not ours
    for some in batched(folders, RUNS_PER_QUERY):
        runs = {str(run.uuid): run for run in find_runs(some)}
        for folder in some:
            if folder not in runs:
                delete_unknown(store, folder)
            elif may_have_leftovers(runs[folder]):
                delete_leftovers_of(store, runs[folder])


def is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def find_runs(uuids: tuple[str, ...]) -> list[Run]:
    named = Batch.objects.filter(run=OuterRef("pk")).exclude(object_name="")
    attempts = Attempt.objects.filter(run=OuterRef("pk"))
    return list(Run.objects.filter(uuid__in=uuids).annotate(names_objects=Exists(named), has_failed_attempts=Exists(attempts)))


def may_have_leftovers(run: Run) -> bool:
    """Return False where all that the run has written is named: no attempt of it has failed. Then nothing need be listed."""
    return run.has_failed_attempts or not run.names_objects  # type: ignore[attr-defined]


def delete_leftovers_of(store: BatchStore, run: Run) -> None:
    claims = store.list_folders(str(run.uuid))
    live = find_live_claims(run)  # after the list: what is listed and not live now never will be
    for claim in claims:
        if claim not in live:
            store.delete_folder(f"{run.uuid}/{claim}")
    if not live and Run.objects.filter(pk=run.pk, finished_at__lt=Now() - GRACE).exists():
        store.delete_folder(str(run.uuid))


def find_live_claims(run: Run) -> set[str]:
    """Return the claims of running tasks, read first, and then those whose objects rows name: a task may end in between."""
    running = {str(claim) for claim in run.tasks.filter(state=State.RUNNING).values_list("claim", flat=True)}
    names = run.batches.exclude(object_name="").values_list("object_name", flat=True)
    return running | {name.split("/")[1] for name in names.iterator()}


def delete_unknown(store: BatchStore, folder: str) -> None:
    """Delete the objects of a run that the ledger does not know, after a restore, once they are older than any that are needed."""
    written = store.last_written(folder)
    if written is None or clock.process_now() - written > max(timedelta(days=settings.ETL_KEEP_BATCHES_DAYS), GRACE):
        store.delete_folder(folder)
