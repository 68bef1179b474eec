"""Charts as SVG for the report, without scripts, theme colours or external resources."""

from collections.abc import Iterable, Iterator, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.console.overview.charts import Chart
from techmarket.formats import localize_count

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 190, 92, 20, 22
BAR_HEIGHT, NAME_WIDTH, VALUE_WIDTH = 20, 250, 110  # of a horizontal bar; the height includes the gap
GRID_STEPS, MAX_NAME_LENGTH = 4, 38
DOT = 3  # half the length of the dash that stands for a line of one value
COLOURS = ("#2563eb", "#94a3b8")


def draw_chart(chart: Chart) -> SafeString:
    return draw_bars(chart) if chart.horizontal else draw_lines(chart)


def draw_bars(chart: Chart) -> SafeString:
    """Draw the first series as horizontal bars."""
    values = [float(value) for value in chart.series[0].values]
    most = max([*values, 1])
    parts = [draw_bar(at, name, value, most) for at, (name, value) in enumerate(zip(chart.labels, values, strict=True))]
    return wrap_svg(len(parts) * BAR_HEIGHT, join(parts))


def draw_bar(at: int, name: str, value: float, most: float) -> SafeString:
    length, base = round(max(value, 0) / most * (WIDTH - NAME_WIDTH - VALUE_WIDTH)), at * BAR_HEIGHT + 14
    pattern = (
        '<text x="{}" y="{}" class="name">{}</text><rect x="{}" y="{}" width="{}" height="{}" fill="{}"/><text x="{}" y="{}">{}</text>'
    )
    left, right = (NAME_WIDTH - 8, base, shorten(name)), (NAME_WIDTH + length + 6, base, localize_count(round(value)))
    return format_html(pattern, *left, NAME_WIDTH, base - 11, length, BAR_HEIGHT - 6, COLOURS[0], *right)


def shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def draw_lines(chart: Chart) -> SafeString:
    """Draw all series as lines, with a legend above and up to twelve labels below."""
    top = round_up([float(value) for series in chart.series for value in series.values])
    parts = [*draw_grid(top), *draw_labels(chart.labels)]
    for number, series in enumerate(chart.series):
        colour, points = COLOURS[number % len(COLOURS)], join_points([float(value) for value in series.values], top)
        parts.append(format_html('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>', points, colour))
        legend = '<rect x="{}" y="4" width="10" height="4" fill="{}"/><text x="{}" y="10">{}</text>'
        parts.append(format_html(legend, LEFT + number * 160, colour, LEFT + number * 160 + 16, series.name))
    return wrap_svg(TOP + HEIGHT + BOTTOM, join(parts))


def round_up(values: Sequence[float]) -> float:
    """Return the top of the scale: one digit and zeros, no less than any value."""
    most = max([*values, 1.0])
    power = 10.0 ** (len(str(int(most))) - 1)
    return (int(most / power) + (most % power > 0)) * power


def draw_grid(top: float) -> Iterator[SafeString]:
    for step in range(GRID_STEPS + 1):
        y = TOP + HEIGHT - HEIGHT * step // GRID_STEPS
        pattern = '<path d="M{} {}H{}" stroke="#e2e8f0"/><text x="{}" y="{}" class="name">{}</text>'
        yield format_html(pattern, LEFT, y, WIDTH, LEFT - 6, y + 4, localize_count(round(top * step / GRID_STEPS)))


def draw_labels(names: Sequence[str]) -> Iterator[SafeString]:
    every = -(-len(names) // 12)
    for at, name in enumerate(names):
        if at % every == 0:
            yield format_html('<text x="{}" y="{}" class="below">{}</text>', find_x(at, len(names)), TOP + HEIGHT + 16, name)


def join_points(values: Sequence[float], top: float) -> str:
    points = [(find_x(at, len(values)), TOP + HEIGHT - HEIGHT * value / top) for at, value in enumerate(values)]
    if len(points) == 1:  # a line of one point would be invisible
        points = [(points[0][0] - DOT, points[0][1]), (points[0][0] + DOT, points[0][1])]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def find_x(at: int, count: int) -> float:
    """Return the middle of the share that one of `count` values has of the width."""
    return round(LEFT + (WIDTH - LEFT) * (at + 0.5) / count, 1)


def join(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def wrap_svg(height: int, content: SafeString) -> SafeString:
    return format_html('<svg viewBox="0 0 {} {}" role="img">{}</svg>', WIDTH, max(height, 1), content)
