"""Charts as Chart.js takes them, in the colours of unfold's themes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import get_language

# Readable on light and dark backgrounds; unfold's own axes use it too.
AXIS_COLOUR = "#9ca3af"
COLOURS = ("var(--color-primary-600)", "var(--color-base-400)")


@dataclass(frozen=True)
class Series:
    name: str
    values: Sequence[Any]
    colours: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """`kind`: line or bar. `horizontal`: bars lie, for long names."""

    kind: str
    labels: Sequence[str]
    series: Sequence[Series]
    horizontal: bool = False

    @property
    def data(self) -> str:
        datasets = [make_dataset(series, COLOURS[number % len(COLOURS)]) for number, series in enumerate(self.series)]
        return json.dumps({"labels": list(self.labels), "datasets": datasets})

    @property
    def options(self) -> str:
        """Return the options as JSON; `locale` gives axes and tooltips the separators of the language."""
        axis = {"ticks": {"color": AXIS_COLOUR}, "grid": {"display": False}}
        amounts = {"ticks": {"color": AXIS_COLOUR, "maxTicksLimit": 5}, "grid": {"tickLength": 0}, "beginAtZero": True}
        legend = {"display": len(self.series) > 1, "align": "end", "labels": {"color": AXIS_COLOUR, "boxWidth": 12, "boxHeight": 6}}
        options: dict[str, Any] = {
            "animation": False,
            "responsive": True,
            "maintainAspectRatio": False,
            "locale": get_language(),
            "indexAxis": "y" if self.horizontal else "x",
            "scales": {"x": amounts if self.horizontal else axis, "y": axis if self.horizontal else amounts},
            "plugins": {"legend": legend},
        }
        return json.dumps(options)


def make_dataset(series: Series, colour: str) -> dict[str, Any]:
    colours = list(series.colours) or colour
    shape = {"borderWidth": 2, "pointRadius": 2, "tension": 0.2, "borderRadius": 3, "maxBarThickness": 28}
    return {
        "label": series.name,
        "data": [float(value) for value in series.values],
        "backgroundColor": colours,
        "borderColor": colours,
    } | shape
