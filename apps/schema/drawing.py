"""The tables as a picture: SVG, light, drawn here, so that it is the same on every machine."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from apps.schema.layout import HEADER, MARGIN, MARK, TITLE, Bus, Diagram, Node, arranged
from apps.schema.tables import Column, Database, Table

RULE, GROUND = "#94a3b8", "#ffffff"
HEADERS = {True: "#dbeafe", False: "#eef2f6"}  # of a table that references others, and of one that does not
LINES = ("#2563eb", "#b45309", "#047857", "#be185d", "#6d28d9", "#0e7490", "#4d7c0f")
STYLE = (
    "text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#0f172a}"
    ".title{font:600 16px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}.name{font-weight:700;font-size:12px}"
    ".soft{fill:#64748b}.mark{font-size:9px;fill:#64748b}.line{fill:none;stroke-width:1.3}"
)
LOOP = 14
LETTER = 10  # of the title


def written(database: Database) -> str:
    diagram = arranged(database)
    title = f"{database.meaning} {database.product}"
    width = max(diagram.width, 2 * MARGIN + LETTER * len(title))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {diagram.height:.0f}" width="{width:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="100%" height="100%" fill="{GROUND}"/>',
            f'<text class="title" x="{MARGIN}" y="{MARGIN + TITLE / 2:.0f}">{escape(title)}</text>',
            *relations(diagram),
            *(part for node in diagram.nodes if node.table for part in box(node, node.table)),
            "</svg>",
            "",
        ]
    )


def relations(diagram: Diagram) -> Iterator[str]:
    """A line keeps the colour of the table that it comes from, on lanes too."""
    names = list(dict.fromkeys(node.name for node in diagram.nodes if node.table))
    colours = {name: LINES[number % len(LINES)] for number, name in enumerate(names)}
    for node in diagram.nodes:
        if not node.table:
            yield path(colours[node.name], f"M{node.x:g} {node.level(''):g}H{node.x + node.width:g}")
    for bus in diagram.buses:
        yield from drawn(bus, colours[bus.source.name])
    for node in diagram.nodes:
        if node.table:
            yield from loops(node, node.table, colours[node.name])


def drawn(bus: Bus, colour: str) -> Iterator[str]:
    edge = bus.source.x + bus.source.width
    levels = [bus.start, *(level for _, level, _ in bus.ends)]
    yield path(colour, f"M{edge:g} {bus.start:g}H{bus.x:g}M{bus.x:g} {min(levels):g}V{max(levels):g}")
    if bus.source.table:
        yield path(colour, f"M{edge + 6:g} {bus.start - 4:g}v8")
    for node, level, column in bus.ends:
        yield path(colour, f"M{bus.x:g} {level:g}H{node.x:g}")
        if column:
            yield from many(node.x, level, -1, column, colour)


def many(x: float, y: float, side: int, column: Column, colour: str) -> Iterator[str]:
    """The end at a table with the reference: a crow's foot, or a bar where it is unique; a ring where it may be empty."""
    foot = f"M{x + side * 6:g} {y - 4:g}v8" if column.unique else f"M{x:g} {y - 4:g}l{side * 8:g} 4l{-side * 8:g} 4"
    yield path(colour, foot)
    if column.null:
        yield f'<circle cx="{x + side * 12:g}" cy="{y:g}" r="3.5" fill="{GROUND}" stroke="{colour}" stroke-width="1.3"/>'


def loops(node: Node, table: Table, colour: str) -> Iterator[str]:
    """A reference of a table to itself, at its right."""
    edge = node.x + node.width
    for column in table.columns:
        if column.references and column.references[0] == table.name:
            low, high = node.level(column.name), node.level(table.key)
            yield path(colour, f"M{edge:g} {high:g}h{LOOP:g}V{low:g}H{edge:g}")
            yield from many(edge, low, 1, column, colour)


def path(colour: str, way: str) -> str:
    return f'<path class="line" stroke="{colour}" d="{way}"/>'


def box(node: Node, table: Table) -> Iterator[str]:
    head = HEADERS[bool(table.parents)]
    place = f'x="{node.x:g}" y="{node.y:g}" width="{node.width:g}"'
    yield f'<rect {place} height="{node.height:g}" rx="4" fill="{GROUND}" stroke="{RULE}"/>'
    yield f'<rect {place} height="{HEADER - 2:g}" rx="4" fill="{head}" stroke="{RULE}"/>'
    yield f'<text class="name" x="{node.x + 10:g}" y="{node.y + 16:g}">{table.name}</text>'
    for column in table.columns:
        yield from row(node, column)


def row(node: Node, column: Column) -> Iterator[str]:
    base = f'y="{node.level(column.name) + 4:g}"'
    mark = "PK" if column.primary else "FK" if column.references else "UQ" if column.unique else ""
    if mark:
        yield f'<text class="mark" x="{node.x + 8:g}" {base}>{mark}</text>'
    yield f'<text x="{node.x + MARK:g}" {base}>{column.name}</text>'
    kind = column.type + ("?" if column.null else "")
    yield f'<text class="soft" x="{node.x + node.width - 8:g}" {base} text-anchor="end">{kind}</text>'
