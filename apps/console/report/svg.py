"""Charts as SVG, for paper: no script, no colour of a theme, nothing from elsewhere."""

from collections.abc import Iterable, Iterator, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.console.overview.charts import Chart
from techmarket.amounts import whole

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 190, 92, 20, 22
BAR, NAME, VALUE = 20, 250, 110  # a lying bar's height with its gap, and the room for its name and number
STEPS, LONGEST = 4, 38
COLOURS = ("#2563eb", "#94a3b8")


def drawn(chart: Chart) -> SafeString:
    return bars(chart) if chart.across else lines(chart)


def bars(chart: Chart) -> SafeString:
    """Of the first series, one below the other."""
    values = [float(value) for value in chart.series[0].values]
    most = max([*values, 1])
    parts = [bar(at, name, value, most) for at, (name, value) in enumerate(zip(chart.labels, values, strict=True))]
    return picture(len(parts) * BAR, joined(parts))


def bar(at: int, name: str, value: float, most: float) -> SafeString:
    length, base = round(max(value, 0) / most * (WIDTH - NAME - VALUE)), at * BAR + 14
    pattern = (
        '<text x="{}" y="{}" class="name">{}</text><rect x="{}" y="{}" width="{}" height="{}" fill="{}"/><text x="{}" y="{}">{}</text>'
    )
    left, right = (NAME - 8, base, shortened(name)), (NAME + length + 6, base, whole(round(value)))
    return format_html(pattern, *left, NAME, base - 11, length, BAR - 6, COLOURS[0], *right)


def shortened(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def lines(chart: Chart) -> SafeString:
    """All series in one field; a legend above it, every so many labels below it."""
    top = highest([float(value) for series in chart.series for value in series.values])
    parts = [*grid(top), *labels(chart.labels)]
    for number, series in enumerate(chart.series):
        colour, points = COLOURS[number % len(COLOURS)], along([float(value) for value in series.values], top)
        parts.append(format_html('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>', points, colour))
        legend = '<rect x="{}" y="4" width="10" height="4" fill="{}"/><text x="{}" y="10">{}</text>'
        parts.append(format_html(legend, LEFT + number * 160, colour, LEFT + number * 160 + 16, series.name))
    return picture(TOP + HEIGHT + BOTTOM, joined(parts))


def highest(values: Sequence[float]) -> float:
    """The top of the scale: of one digit and zeros, no less than any value."""
    most = max([*values, 1.0])
    power = 10.0 ** (len(str(int(most))) - 1)
    return (int(most / power) + (most % power > 0)) * power


def grid(top: float) -> Iterator[SafeString]:
    for step in range(STEPS + 1):
        y = TOP + HEIGHT - HEIGHT * step // STEPS
        pattern = '<path d="M{} {}H{}" stroke="#e2e8f0"/><text x="{}" y="{}" class="name">{}</text>'
        yield format_html(pattern, LEFT, y, WIDTH, LEFT - 6, y + 4, whole(round(top * step / STEPS)))


def labels(names: Sequence[str]) -> Iterator[SafeString]:
    every = -(-len(names) // 12)
    for at, name in enumerate(names):
        if at % every == 0:
            yield format_html('<text x="{}" y="{}" class="below">{}</text>', across(at, len(names)), TOP + HEIGHT + 16, name)


def along(values: Sequence[float], top: float) -> str:
    points = ((across(at, len(values)), TOP + HEIGHT - HEIGHT * value / top) for at, value in enumerate(values))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def across(at: int, count: int) -> float:
    """In the middle of its share of the field."""
    return round(LEFT + (WIDTH - LEFT) * (at + 0.5) / count, 1)


def joined(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def picture(height: int, inside: SafeString) -> SafeString:
    return format_html('<svg viewBox="0 0 {} {}" role="img">{}</svg>', WIDTH, max(height, 1), inside)
