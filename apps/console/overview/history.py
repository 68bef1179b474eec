"""Charts of the latest runs: rows written and duration."""

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
from techmarket.formats import localize_count, localize_duration

SUCCEEDED_COLOUR, FAILED_COLOUR = "var(--color-primary-600)", "#dc2626"


def draw_history(runs: Sequence[Run]) -> list[Figure]:
    """Return one chart for each measure; failed runs are red, and their tables show the state."""
    names = [f"{run.pk} · {date_format(localtime(run.created_at), 'j E H:i')}" for run in runs]
    colours = [FAILED_COLOUR if run.state in RED_STATES else SUCCEEDED_COLOUR for run in runs]
    rows, seconds = {number: tally.written for number, tally in tallies(runs).items()}, [run.seconds or 0.0 for run in runs]
    lines = [
        Line(
            name,
            reverse("admin:orchestration_run_change", args=[run.pk]),
            (run.get_state_display(), localize_count(rows[run.pk]), duration),
        )
        for name, run, duration in zip(names, runs, map(format_seconds, seconds), strict=True)
    ]
    columns = (_("Run"), _("State"), _("Rows written"), _("Duration"))
    measures = (
        (_("Rows written by recent runs"), Series(_("Rows written"), [rows[run.pk] for run in runs], colours)),
        (_("Duration of recent runs"), Series(_("Seconds"), seconds, colours)),
    )
    return [Figure(title, Chart("bar", [str(run.pk) for run in runs], [series]), columns, lines[::-1]) for title, series in measures]


def format_seconds(seconds: float) -> str:
    return localize_duration(timedelta(seconds=seconds))
