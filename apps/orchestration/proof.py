"""Proofs: the sources compared with the star, day by day, and what is stored of it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from itertools import batched, islice
from typing import Any

import numpy as np
from django.conf import settings
from django.db import transaction

from apps.etl.extract.facts import chunks
from apps.etl.extract.survey import open_order_snapshots
from apps.etl.money import uah
from apps.etl.reconcile.compare import Comparison, Listener, Period, Rejected, compare, is_date
from apps.etl.reconcile.numbers import SHOWN
from apps.etl.slices import whole_number
from apps.etl.tables import FACT_SALES, FINGERPRINTED, ORDER_ITEMS, PAYMENTS
from apps.etl.transform.rows import spell
from apps.orchestration import clock
from apps.orchestration.models import MAX_MISMATCHES, DayProof, PaymentMismatch, StandingReject, Verdict
from apps.orchestration.standing import find_orders, standing_rejects
from apps.orchestration.window import Window, shop_date, today
from apps.warehouse.loads import latest_load
from techmarket.connections import close_dead_connections
from techmarket.errors import PublishedMeanwhile
from techmarket.messages import message

ATTEMPTS = 2  # where a run is published while the sides are read
SHOWN_PER_DAY = 100  # orders that a proof lists
MISMATCHES_PER_INSERT = 2_000


@dataclass(frozen=True)
class Proof:
    """A comparison, and the rejects whose rows have changed in the source since they were read."""

    comparison: Comparison
    checked_at: datetime  # the control database's clock before the sides were read: loads are dated by it, too
    days: list[DayProof]
    changed_rejects: list[StandingReject]

    @property
    def is_equal(self) -> bool:
        return not self.changed_rejects and not self.comparison.differing

    @property
    def orders(self) -> list[int]:
        """The ids of the orders that a repair reads."""
        changed = StandingReject.objects.filter(pk__in=[reject.pk for reject in self.changed_rejects])
        return sorted({order.order_id for order in self.comparison.orders}.union(find_orders(changed)))


def prove(window: Window, listener: Listener = lambda done, steps: None) -> Proof:
    """Compare the days of the window, or everything, and store each day's proof. Raises PublishedMeanwhile, Unreachable."""
    period = period_of(window)
    for _attempt in range(ATTEMPTS):
        before = latest_load()
        rejects = list(standing_rejects().filter(subject=FACT_SALES.table))
        mark, checked_at = before.high_water_mark if before else None, clock.now()
        found = compare(settings.SHOP_TIME_ZONE, period, to_rejected(rejects), mark, listener)
        close_dead_connections()  # idle for as long as the comparison took
        after = latest_load()
        if (before and before.sequence) == (after and after.sequence):
            days = list(build_proofs(found, period, mark, checked_at))
            with transaction.atomic():
                save_proofs(days)
                save_mismatches(found, period, checked_at)
            return Proof(found, checked_at, days, find_changed(rejects))
    raise PublishedMeanwhile(message("proof.published_meanwhile"))


def period_of(window: Window) -> Period | None:
    if window.start is None or window.end is None:
        return None
    return Period(shop_date(window.start), shop_date(window.end - timedelta(microseconds=1)), window.start, window.end)


def to_rejected(rejects: list[StandingReject]) -> Rejected:
    lines, payments = ([each for each in rejects if each.table == source.table] for source in (ORDER_ITEMS, PAYMENTS))
    return Rejected(ids_of(lines), slice_ids_of(lines), ids_of(payments), slice_ids_of(payments))


def ids_of(rejects: list[StandingReject]) -> Any:
    return np.array([whole_number(each.row_id) for each in rejects], dtype=np.int64)


def slice_ids_of(rejects: list[StandingReject]) -> Any:
    return np.array([each.slice_id for each in rejects], dtype=np.int64)


def find_changed(rejects: list[StandingReject]) -> list[StandingReject]:
    """Return the rejects whose rows are not, or no longer, as they were when they were rejected."""
    changed = []
    with open_order_snapshots() as snapshots:
        for source in FINGERPRINTED:
            mine = {whole_number(each.row_id): each for each in rejects if each.table == source.table}
            now: dict[int, dict[str, Any]] = {}
            for some in chunks(sorted(mine)):
                rows = snapshots[source.alias].read(source, f"id IN ({', '.join(map(str, some))})").to_pylist()
                now |= {int(row["id"]): {name: spell(value, source.kind(name)) for name, value in row.items()} for row in rows}
            changed += [reject for row, reject in mine.items() if now.get(row) != reject.raw]
    return changed


# --- What is stored ---


def build_proofs(found: Comparison, period: Period | None, mark: datetime | None, checked_at: datetime) -> Iterator[DayProof]:
    """Yield a proof for every day of the period, or from the first day on which either side has a sale until today."""
    by_day: dict[int, list[dict[str, Any]]] = {}
    for order in found.orders:
        by_day.setdefault(order.day, []).append(asdict(order))
    for day in days_to_prove(found, period):
        key = int(f"{day:%Y%m%d}")
        differing, changed = found.differing.get(key, 0), found.changed.get(key, 0)
        yield DayProof(
            day=day,
            verdict=Verdict.EQUAL if not differing else Verdict.CHANGED if changed == differing else Verdict.DIFFERENT,
            checked_at=checked_at,
            star_as_of=mark,
            differing=differing,
            source=shown(found.source.get(key, {})),
            star=shown(found.star.get(key, {})),
            orders=by_day.get(key, [])[:SHOWN_PER_DAY],
            order_ids=[order["order_id"] for order in by_day.get(key, [])],
        )


def days_to_prove(found: Comparison, period: Period | None) -> Iterator[date]:
    known = {date.fromisoformat(str(day)) for day in {*found.source, *found.star, *found.differing} if is_date(day)}
    first, last = (period.first, period.last) if period else (min({*known, today()}), max({*known, today()}))
    inside = {first + timedelta(days=number) for number in range((last - first).days + 1)}
    yield from sorted(inside | {date.fromisoformat(str(day)) for day in found.differing if is_date(day)})


def shown(totals: dict[str, int]) -> dict[str, int]:
    return {name: totals.get(name, 0) for name in ("orders", *SHOWN)}


def save_proofs(days: list[DayProof]) -> None:
    names = [field.name for field in DayProof._meta.concrete_fields if field.name != "day"]
    DayProof.objects.bulk_create(days, update_conflicts=True, unique_fields=["day"], update_fields=names, batch_size=500)


def save_mismatches(found: Comparison, period: Period | None, checked_at: datetime) -> None:
    """Replace the mismatches of the orders that were compared."""
    if period is None:
        PaymentMismatch.objects.all().delete()
    else:
        PaymentMismatch.objects.filter(day__range=(period.first, period.last)).delete()
        for some in chunks(found.compared.tolist()):
            PaymentMismatch.objects.filter(order_id__in=some).delete()
    # Another comparison at the same time may have stored the same order.
    unique = ["kind", "order_id"]
    names = [field.name for field in PaymentMismatch._meta.concrete_fields if field.name not in ("id", *unique)]
    for part in batched(build_mismatches(found, checked_at), MISMATCHES_PER_INSERT):
        PaymentMismatch.objects.bulk_create(part, update_conflicts=True, unique_fields=unique, update_fields=names)


def build_mismatches(found: Comparison, checked_at: datetime) -> Iterator[PaymentMismatch]:
    """Yield the first MAX_MISMATCHES orders of each list."""
    for kind, mismatches in found.mismatches.items():
        for row in islice(mismatches.rows(), MAX_MISMATCHES):
            yield PaymentMismatch(
                kind=kind,
                order_id=row["order_id"],
                day=date.fromisoformat(str(row["day"])) if is_date(row["day"]) else None,
                net=uah(row["net"]),
                captured=uah(row["captured"]),
                refunded=uah(row["refunded"]),
                checked_at=checked_at,
            )
