"""Where the tables and the lines of a diagram stand: tables in columns, what is referenced to the left of what references it.

A line to a table that is not in the next column passes through the columns between on a lane of its own, so that it crosses no table.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from apps.schema.tables import Column, Database, Table

# Pixels.
CHARACTER, ROW, HEADER, GAP, LANE, MARGIN, TITLE = 6.7, 17, 26, 20, 8, 20, 34
MARK = 26  # before a column's name, for PK and FK
ROOM, TRACK = 24, 10  # beside a table, for the ends of lines; from one upright to the next
SWEEPS = 4


@dataclass(eq=False)
class Node:
    """A table; or, where `table` is None, the lane of the lines that come from the table `name`."""

    name: str
    table: Table | None = None
    x: float = 0
    y: float = 0
    width: float = 0

    @property
    def height(self) -> float:
        return HEADER + ROW * len(self.table.columns) + 4 if self.table else LANE

    @property
    def parents(self) -> tuple[str, ...]:
        return self.table.parents if self.table else (self.name,)

    def level(self, column: str) -> float:
        """Where lines of this column of the table end."""
        if not self.table:
            return self.y + LANE / 2
        return self.y + HEADER + ROW * ([each.name for each in self.table.columns].index(column) + 0.5)


@dataclass
class Bus:
    """The lines from one node into the next column: an upright at `x`, which begins at the height `start`. An end may be a lane's."""

    source: Node
    start: float
    ends: list[tuple[Node, float, Column | None]]
    x: float = 0


@dataclass(frozen=True)
class Diagram:
    nodes: list[Node]
    width: float
    height: float
    buses: list[Bus] = field(default_factory=list)


def arranged(database: Database) -> Diagram:
    """Sets every position."""
    columns = sorted_out(in_columns(database.tables))
    height = max(map(stacked, columns))
    for column in columns:
        top = MARGIN + TITLE + (height - stacked(column)) / 2
        for node in column:
            node.y, top = top, top + node.height + GAP
    buses: list[Bus] = []
    x: float = MARGIN
    for column, following in zip(columns, [*columns[1:], []], strict=True):
        widest = max(width(node.table) for node in column if node.table)
        for node in column:
            node.x, node.width = x, width(node.table) if node.table else widest
        x += widest + ROOM
        for bus in crossing_least(list(lines(column, following))):
            bus.x, x = x, x + TRACK
            buses.append(bus)
        x += ROOM
    return Diagram([node for column in columns for node in column], x - ROOM + MARGIN, height + TITLE + 2 * MARGIN, buses)


def width(table: Table) -> float:
    longest = max(len(column.name) + len(column.type) for column in table.columns) + 2
    return MARK + CHARACTER * max(longest, len(table.name) + 2) + 10


def stacked(column: Iterable[Node]) -> float:
    return sum(node.height + GAP for node in column) - GAP


def in_columns(tables: Iterable[Table]) -> list[list[Node]]:
    """Each table one column to the right of the last that it references; a table without any relation where there is most room."""
    tables = list(tables)
    depth: dict[str, int] = {}
    while len(depth) < len(tables):
        # Of a circle, whichever comes first.
        ready = [table for table in tables if table.name not in depth and all(name in depth for name in table.parents)]
        for table in ready or [table for table in tables if table.name not in depth][:1]:
            depth[table.name] = max((depth.get(name, -1) + 1 for name in table.parents), default=0)
    referenced = {name for table in tables for name in table.parents}
    alone = [table for table in tables if not table.parents and table.name not in referenced]
    columns: list[list[Node]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for table in tables:
        if table not in alone:
            columns[depth[table.name]].append(Node(table.name, table))
    for number, column in enumerate(columns):
        beyond = [name for later in columns[number + 1 :] for node in later if node.table for name in node.parents]
        column.extend(Node(name) for name in dict.fromkeys(beyond) if depth[name] < number)
    for table in alone:
        min(columns, key=stacked).append(Node(table.name, table))
    return columns


def sorted_out(columns: list[list[Node]]) -> list[list[Node]]:
    """Each node near the middle of what it is tied to, looking left, then right, and again."""
    for sweep in range(SWEEPS):
        if sweep % 2 == 0:
            for left, right in pairwise(columns):
                right.sort(
                    key=middles(right, {node: [at for at, other in enumerate(left) if other.name in node.parents] for node in right})
                )
        else:
            for right, left in pairwise(columns[::-1]):
                left.sort(key=middles(left, {node: [at for at, other in enumerate(right) if node.name in other.parents] for node in left}))
    return columns


def middles(nodes: list[Node], tied: dict[Node, list[int]]) -> Callable[[Node], tuple[float, int]]:
    """A sort key: the mean of the places that a node is tied to, its own where there are none."""
    was = {node: number for number, node in enumerate(nodes)}
    mean = {node: sum(places) / len(places) if places else was[node] for node, places in tied.items()}
    return lambda node: (mean[node], was[node])


def lines(column: list[Node], following: list[Node]) -> Iterator[Bus]:
    for node in column:
        ends = [end for other in following for end in arrivals(node.name, other)]
        if ends:
            start = node.level(node.table.key) if node.table else node.level("")
            yield Bus(node, start, ends)


def arrivals(name: str, node: Node) -> Iterator[tuple[Node, float, Column | None]]:
    if not node.table:
        if node.name == name:
            yield node, node.level(""), None
        return
    for column in node.table.columns:
        if column.references and column.references[0] == name:
            yield node, node.level(column.name), column


def crossing_least(buses: list[Bus]) -> list[Bus]:
    """Left to right: those that go up, the highest first; then those that go down, the lowest first."""
    up = [bus for bus in buses if sum(level for _, level, _ in bus.ends) / len(bus.ends) < bus.start]
    down = [bus for bus in buses if bus not in up]
    return sorted(up, key=lambda bus: bus.start) + sorted(down, key=lambda bus: -bus.start)
