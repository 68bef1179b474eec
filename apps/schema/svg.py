"""An entity-relationship diagram as SVG, rendered without an external program, so that it is the same on every machine."""

from collections.abc import Iterator
from html import escape

from apps.schema.layout import HEADER, MARGIN, MARK, TITLE, Bus, Diagram, Node, arrange_diagram
from apps.schema.tables import Column, Database, Table

BORDER, BACKGROUND = "#94a3b8", "#ffffff"
HEADER_COLOURS = {True: "#dbeafe", False: "#eef2f6"}  # by whether the table references others
LINE_COLOURS = ("#2563eb", "#b45309", "#047857", "#be185d", "#6d28d9", "#0e7490", "#4d7c0f")
STYLE = (
    "text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#0f172a}"
    ".title{font:600 16px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}.name{font-weight:700;font-size:12px}"
    ".soft{fill:#64748b}.mark{font-size:9px;fill:#64748b}.line{fill:none;stroke-width:1.3}"
)
# Pixels.
LOOP_WIDTH = 14
TITLE_CHARACTER = 10


def render_svg(database: Database) -> str:
    diagram = arrange_diagram(database)
    title = f"{database.description} {database.product}"
    width = max(diagram.width, 2 * MARGIN + TITLE_CHARACTER * len(title))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {diagram.height:.0f}" width="{width:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>',
            f'<text class="title" x="{MARGIN}" y="{MARGIN + TITLE / 2:.0f}">{escape(title)}</text>',
            *draw_references(diagram),
            *(part for node in diagram.nodes if node.table for part in draw_table(node, node.table)),
            "</svg>",
            "",
        ]
    )


def draw_references(diagram: Diagram) -> Iterator[str]:
    """Draw all lines, each in the colour of the referenced table, on lanes too."""
    names = list(dict.fromkeys(node.name for node in diagram.nodes if node.table))
    colours = {name: LINE_COLOURS[number % len(LINE_COLOURS)] for number, name in enumerate(names)}
    for node in diagram.nodes:
        if not node.table:
            yield draw_path(colours[node.name], f"M{node.x:g} {node.line_y(''):g}H{node.x + node.width:g}")
    for bus in diagram.buses:
        yield from draw_bus(bus, colours[bus.source.name])
    for node in diagram.nodes:
        if node.table:
            yield from draw_self_references(node, node.table, colours[node.name])


def draw_bus(bus: Bus, colour: str) -> Iterator[str]:
    edge = bus.source.x + bus.source.width
    levels = [bus.start, *(level for _, level, _ in bus.ends)]
    yield draw_path(colour, f"M{edge:g} {bus.start:g}H{bus.x:g}M{bus.x:g} {min(levels):g}V{max(levels):g}")
    if bus.source.table:
        yield draw_path(colour, f"M{edge + 6:g} {bus.start - 4:g}v8")
    for node, level, column in bus.ends:
        yield draw_path(colour, f"M{bus.x:g} {level:g}H{node.x:g}")
        if column:
            yield from draw_line_end(node.x, level, -1, column, colour)


def draw_line_end(x: float, y: float, side: int, column: Column, colour: str) -> Iterator[str]:
    """Draw the end at the referencing column: a crow's foot, or a bar if it is unique; with a ring if it is nullable."""
    foot = f"M{x + side * 6:g} {y - 4:g}v8" if column.unique else f"M{x:g} {y - 4:g}l{side * 8:g} 4l{-side * 8:g} 4"
    yield draw_path(colour, foot)
    if column.null:
        yield f'<circle cx="{x + side * 12:g}" cy="{y:g}" r="3.5" fill="{BACKGROUND}" stroke="{colour}" stroke-width="1.3"/>'


def draw_self_references(node: Node, table: Table, colour: str) -> Iterator[str]:
    """Draw references of a table to itself at its right edge."""
    edge = node.x + node.width
    for column in table.columns:
        if column.references and column.references[0] == table.name:
            low, high = node.line_y(column.name), node.line_y(table.key)
            yield draw_path(colour, f"M{edge:g} {high:g}h{LOOP_WIDTH:g}V{low:g}H{edge:g}")
            yield from draw_line_end(edge, low, 1, column, colour)


def draw_path(colour: str, commands: str) -> str:
    return f'<path class="line" stroke="{colour}" d="{commands}"/>'


def draw_table(node: Node, table: Table) -> Iterator[str]:
    header_colour = HEADER_COLOURS[bool(table.parents)]
    position = f'x="{node.x:g}" y="{node.y:g}" width="{node.width:g}"'
    yield f'<rect {position} height="{node.height:g}" rx="4" fill="{BACKGROUND}" stroke="{BORDER}"/>'
    yield f'<rect {position} height="{HEADER - 2:g}" rx="4" fill="{header_colour}" stroke="{BORDER}"/>'
    yield f'<text class="name" x="{node.x + 10:g}" y="{node.y + 16:g}">{table.name}</text>'
    for column in table.columns:
        yield from draw_column(node, column)


def draw_column(node: Node, column: Column) -> Iterator[str]:
    base = f'y="{node.line_y(column.name) + 4:g}"'
    mark = "PK" if column.primary else "FK" if column.references else "UQ" if column.unique else ""
    if mark:
        yield f'<text class="mark" x="{node.x + 8:g}" {base}>{mark}</text>'
    yield f'<text x="{node.x + MARK:g}" {base}>{column.name}</text>'
    kind = column.type + ("?" if column.null else "")
    yield f'<text class="soft" x="{node.x + node.width - 8:g}" {base} text-anchor="end">{kind}</text>'
