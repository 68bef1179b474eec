"""The rejects that stand, and what a person does about them. Without numpy, for the web process; rejects.py opens and clears them."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.audit.chain import record
from apps.audit.models import Deed
from apps.etl.slices import NO_ID, whole_number
from apps.etl.tables import FACT_TABLES
from apps.orchestration.models import STANDING, RejectState, StandingReject
from apps.sources.orders.models import OrderItem
from apps.sources.payments.models import Payment
from techmarket.diagnosis import diagnosed

IDS_PER_QUERY = 1_000
# Of a file of rejects, without their raw content.
COLUMNS = (
    "number",
    "state",
    "table",
    "row_id",
    "rule",
    "reason",
    "slice_id",
    "amount",
    "first_seen",
    "last_seen",
    "first_run",
    "last_run",
    "runs",
    "cleared_by_run",
    "decided_by",
    "decided_at",
    "comment",
)


def standing_rejects() -> "QuerySet[StandingReject]":
    """Return the rejects whose rows the warehouse lacks or has in an older state: open and accepted ones."""
    return StandingReject.objects.filter(state__in=STANDING)


def accept(numbers: Iterable[int], person: str, reason: str) -> list[int]:
    """Accept open rejects, until their content changes. Return the ids of those that were open."""
    with transaction.atomic():
        opened = StandingReject.objects.select_for_update().filter(pk__in=list(numbers), state=RejectState.OPEN)
        found = list(opened.values_list("pk", flat=True))
        changes = {"state": RejectState.ACCEPTED, "decided_by": person, "decided_at": Now(), "comment": reason}
        StandingReject.objects.filter(pk__in=found).update(**changes)
        if found:
            record(Deed.REJECTS_ACCEPTED, after={"rejects": found}, reason=reason)
    return found


def find_orders(rejects: "QuerySet[StandingReject]") -> list[int]:
    """Return the ids of the orders that a replay reads: those that the rejected rows were of, and those that they are of now.

    Rows of dimensions are of no order; every run reads them once they change. Raises Unreachable.
    """
    rows = list(rejects.filter(subject__in=FACT_TABLES).order_by().values_list("table", "row_id", "slice_id"))
    orders = {NO_ID if slice_id is None else slice_id for _table, _row_id, slice_id in rows}
    for model in (OrderItem, Payment):
        orders.update(read_orders_of(model, [whole_number(row_id) for table, row_id, _slice_id in rows if table == model._meta.db_table]))
    return sorted(orders)


def read_orders_of(model: type[OrderItem] | type[Payment], rows: list[int]) -> Iterator[int]:
    """Yield the orders of these rows as the source has them now; a row that was mended may be of another one than before."""
    for start in range(0, len(rows), IDS_PER_QUERY):
        with diagnosed(model._meta.app_label):
            found = model.objects.filter(pk__in=rows[start : start + IDS_PER_QUERY]).values_list("order_id", flat=True)
            yield from [order for order in found if isinstance(order, int)]  # SQLite stores anything


def to_cells(reject: StandingReject) -> list[object]:
    """Return the values of COLUMNS, with the reason in the active language and instants in UTC."""
    values = [reject.pk, *(getattr(reject, name) for name in COLUMNS[1:])]
    return [value.isoformat(timespec="seconds") if isinstance(value, datetime) else value for value in values]
