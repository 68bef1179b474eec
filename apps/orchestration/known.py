"""What the warehouse has of a dimension already: a slice with the fingerprint with which it was last published is not read again."""

from datetime import date
from zoneinfo import ZoneInfo

from django.conf import settings

from apps.etl.declarations import Target
from apps.etl.extract.fingerprints import find_fingerprint
from apps.etl.slices import Bounds
from apps.etl.warehouse import in_warehouse
from apps.orchestration.models import Mode, Run
from apps.warehouse.loads import Load


def requested_on(run: Run) -> date:
    """Return the day of the shop's calendar on which the run was requested."""
    return run.created_at.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE)).date()


def calendar_fingerprint(today: date) -> str:
    """Return the calendar's, which has no source: it grows with the year."""
    return f"calendar of {today.year}"


def known_fingerprint(run: Run, target: Target, bounds: Bounds, latest: Load | None) -> str:
    """Return the slice's fingerprint when it was last published; empty where the run reads it in any case.

    A full run reads it also where another hand has changed it in the warehouse.
    """
    known = find_fingerprint(latest.fingerprints, target.table, bounds) if latest else None
    if not known or run.reads_everything:
        return ""
    if run.mode == Mode.FULL:
        from apps.etl.star import sum_dimension  # numpy: see survey.py

        if known.star != in_warehouse(sum_dimension, target, bounds):
            return ""
    return known.source
