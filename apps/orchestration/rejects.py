"""The life of rejects: opened by the run that first rejects a row, cleared by the run that reads it again without a fault.

A run that is published settles them, in the transaction that records its success.
"""

from collections.abc import Iterable

import structlog
from django.db import connections
from django.db.models.functions import Now

from apps.etl.slices import NO_ID, inside
from apps.etl.tables import FACT_TABLES
from apps.orchestration.batches import read_touched_orders
from apps.orchestration.models import Batch, RejectState, Run, Stage, StandingReject
from apps.orchestration.standing import standing_rejects
from techmarket.errors import EtlError

log = structlog.get_logger()

# Of rejects of the same row by several tasks of a run, the last one counts. An accepted row whose content changes is open again.
UPSERT = """
INSERT INTO orchestration_standingreject AS o
    (subject, "table", row_id, rule, params, raw, slice_id, amount, state, first_seen, last_seen, first_run, last_run, runs,
     cleared_by_run, decided_by, decided_at, comment)
SELECT t.subject, r."table", r.row_id, r.rule, r.params, r.raw, r.slice_id, r.amount, 'open', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP,
    r.run_id, r.run_id, 1, NULL, '', NULL, ''
FROM orchestration_reject AS r JOIN orchestration_task AS t ON t.id = r.task_id
WHERE r.id IN (
    SELECT MAX(r.id) FROM orchestration_reject AS r JOIN orchestration_task AS t ON t.id = r.task_id
    WHERE r.run_id = %s GROUP BY t.subject, r."table", r.row_id, r.rule
)
ON CONFLICT (subject, "table", row_id, rule) DO UPDATE SET
    params = excluded.params, raw = excluded.raw, slice_id = excluded.slice_id, amount = excluded.amount,
    last_seen = excluded.last_seen, last_run = excluded.last_run, cleared_by_run = NULL,
    first_seen = CASE o.state WHEN 'cleared' THEN excluded.first_seen ELSE o.first_seen END,
    first_run = CASE o.state WHEN 'cleared' THEN excluded.first_run ELSE o.first_run END,
    runs = CASE o.state WHEN 'cleared' THEN 1 ELSE o.runs + 1 END,
    state = CASE WHEN o.state = 'accepted' AND o.raw = excluded.raw
        THEN 'accepted' ELSE 'open' END
"""
IDS_PER_UPDATE = 1_000


def settle(run: Run, is_latest: bool = True) -> None:
    """Open, keep and clear rejects by what a published run has read and rejected.

    Where others were published since, what they have found stands: only rejects that none of them knows are opened.
    """
    if not is_latest:
        with connections["default"].cursor() as cursor:
            cursor.execute(UPSERT.partition("ON CONFLICT")[0] + "ON CONFLICT DO NOTHING", [run.pk])
        return
    with connections["default"].cursor() as cursor:
        cursor.execute(UPSERT, [run.pk])
    others = standing_rejects().exclude(last_run=run.pk)
    for subject in others.order_by().values_list("subject", flat=True).distinct():
        rows = list(others.filter(subject=subject).values_list("pk", "slice_id"))
        clear([pk for (pk, _), was_read in zip(rows, find_read(run, subject, rows), strict=True) if was_read], run)


def find_read(run: Run, subject: str, rows: Iterable[tuple[int, int | None]]) -> Iterable[bool]:
    """Return for each reject whether the run has read its row again, or the place where it was."""
    import numpy as np  # only where rejects stand: see worker/stages.py

    ids = np.array([NO_ID if slice_id is None else slice_id for _, slice_id in rows], dtype=np.int64)
    if subject in FACT_TABLES and not run.reads_everything:
        if run.reads_nothing:
            return [False] * len(ids)
        try:
            return list(np.isin(ids, read_touched_orders(run)))
        except (Batch.DoesNotExist, EtlError) as error:  # the run was published all the same; a later one clears them
            log.warning("the orders that the run has read are unknown: no reject is cleared", run=run.pk, cause=str(error))
            return [False] * len(ids)
    read = np.zeros(len(ids), dtype=bool)
    for low, high in run.tasks.filter(stage=Stage.TRANSFORM, batches__name=subject).values_list("low", "high"):
        read |= inside(ids, (low, high))
    return list(read)


def clear(keys: list[int], run: Run) -> None:
    for start in range(0, len(keys), IDS_PER_UPDATE):
        some = StandingReject.objects.filter(pk__in=keys[start : start + IDS_PER_UPDATE])
        some.update(state=RejectState.CLEARED, cleared_by_run=run.pk, last_seen=Now())
