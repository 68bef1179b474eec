"""What a report of a period does not certify, in sentences: what was not checked is called not checked."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from apps.orchestration.models import CheckResult, DayProof, PaymentMismatch, Run, Verdict
from apps.orchestration.recent_runs import open_rejects
from apps.orchestration.window import shop_date, today
from apps.warehouse.loads import Load
from techmarket.formats import localize_count, localize_uah

SHOWN = 10


def list_reservations(
    start: date, end: date, writers: Collection[int], runs: Sequence[Run], failed: Sequence[Run], as_of: Load | None
) -> list[str]:
    """Return the sentences. `writers`: the runs that wrote the sales; `failed`: those since that failed; `runs`: both, of the ledger."""
    wrote = [run for run in runs if run.pk in writers]
    return [*judge_runs(writers, wrote), *judge_age(end, failed, as_of), *judge_days(start, end, as_of), *judge_rows(start, end)]


def judge_runs(writers: Collection[int], runs: Sequence[Run]) -> Iterator[str]:
    if not writers:
        yield _("Not checked: no run wrote sales of this period.")
    missing = sorted(set(writers) - {run.pk for run in runs})
    if missing:
        yield _("Not checked: the ledger no longer has the runs %(runs)s, which wrote sales of this period.") % {"runs": join(missing)}
    checked = set(CheckResult.objects.filter(run__in=runs).values_list("run_id", flat=True))
    unchecked = [run.pk for run in runs if run.pk not in checked]
    if unchecked:
        yield _("Not checked: there are no check results of the runs %(runs)s.") % {"runs": join(unchecked)}


def judge_age(end: date, failed: Sequence[Run], as_of: Load | None) -> Iterator[str]:
    """Yield what the period has and the latest load cannot have: the future, days after the high-water mark, runs that failed since."""
    if end >= today():
        yield _("The period is not over: it ends on %(day)s.") % {"day": format_day(end)}
    mark = as_of.high_water_mark if as_of else None
    if mark is None:
        yield _("Nothing has been loaded into the warehouse.")
    elif shop_date(mark) <= end:
        yield _("Changes in the sources after %(day)s are not in the warehouse.") % {"day": format_day(shop_date(mark))}
    if failed:
        yield _("Unsuccessful since the last load: runs %(runs)s. Later changes in the sources may be missing.") % {
            "runs": join([run.pk for run in failed])
        }


def judge_days(start: date, end: date, as_of: Load | None) -> Iterator[str]:
    """Yield how many days were not compared with the sources, differ, or were loaded again since they were compared."""
    last = min(end, today())
    proofs = dict(DayProof.objects.filter(day__range=(start, last)).values_list("day", "verdict"))
    days = max((last - start).days + 1, 0)
    if days > len(proofs):
        text = _("Not compared with the sources: %(count)s of %(days)s days of the period. Compare them with `manage.py reconcile`.")
        yield text % {"count": localize_count(days - len(proofs)), "days": localize_count(days)}
    different = [day for day, verdict in sorted(proofs.items()) if verdict != Verdict.EQUAL]
    if different:
        text = _("Different from the sources when last compared: %(days)s.")
        yield text % {"days": ", ".join(map(format_day, different[:SHOWN])) + (" ..." if len(different) > SHOWN else "")}
    if as_of:
        older = DayProof.objects.filter(day__range=(start, last), checked_at__lt=as_of.published_at - timedelta(seconds=1)).count()
        if older:
            yield _("Loaded again since they were compared with the sources: %(count)s days.") % {"count": localize_count(older)}


def judge_rows(start: date, end: date) -> Iterator[str]:
    opened = open_rejects()
    if opened.count:
        text = _("Open rejects, of any day: %(count)s. The warehouse lacks %(net)s of net revenue and %(paid)s of payments.")
        yield text % {"count": localize_count(opened.count), "net": localize_uah(opened.net), "paid": localize_uah(opened.paid)}
    orders = PaymentMismatch.objects.filter(day__range=(start, end)).order_by().values("order_id").distinct().count()
    if orders:
        yield _("Orders of this period that do not fit their payments: %(count)s.") % {"count": localize_count(orders)}


def join(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (" ..." if len(numbers) > SHOWN else "")


def format_day(day: date) -> str:
    return date_format(day, "j E Y")
