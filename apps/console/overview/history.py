"""The latest runs: how many rows each wrote, and how long it took."""

from collections.abc import Sequence
from datetime import timedelta

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from apps.console.overview.charts import Chart, Series
from apps.console.overview.figures import Figure, Line
from apps.orchestration.freshness import RED_STATES
from apps.orchestration.models import Run
from apps.orchestration.tally import tallies
from techmarket.amounts import lasting, whole

GOOD_RUN, BAD_RUN = "var(--color-primary-600)", "#dc2626"


def history(runs: Sequence[Run]) -> list[Figure]:
    """Failed runs are red, and say so in the tables."""
    names = [f"{run.pk} · {date_format(localtime(run.created_at), 'j E H:i')}" for run in runs]
    colours = [BAD_RUN if run.state in RED_STATES else GOOD_RUN for run in runs]
    rows, seconds = {number: tally.written for number, tally in tallies(runs).items()}, [run.seconds or 0.0 for run in runs]
    lines = [
        Line(name, reverse("admin:orchestration_run_change", args=[run.pk]), (run.get_state_display(), whole(rows[run.pk]), lasted))
        for name, run, lasted in zip(names, runs, map(duration, seconds), strict=True)
    ]
    columns = (_("Run"), _("State"), _("Rows written"), _("Duration"))
    drawn = (
        (_("Rows written by the latest runs"), Series(_("Rows written"), [rows[run.pk] for run in runs], colours)),
        (_("Duration of the latest runs"), Series(_("Seconds"), seconds, colours)),
    )
    return [Figure(title, Chart("bar", [str(run.pk) for run in runs], [series]), columns, lines[::-1]) for title, series in drawn]


def duration(seconds: float) -> str:
    return lasting(timedelta(seconds=seconds))
