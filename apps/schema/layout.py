"""Positions of the tables and lines of a diagram: tables in columns, referenced tables to the left of the referencing ones.

A line to a table that is not in the next column passes through the columns between on a lane of its own, so that it crosses no table.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from apps.schema.tables import Column, Database, Table

# Pixels.
CHARACTER, ROW, HEADER, GAP, LANE, MARGIN, TITLE = 6.7, 17, 26, 20, 8, 20, 34
MARK = 26  # space before a column's name, for PK and FK
LINE_END, TRACK = 24, 10  # space beside a table for the ends of lines; distance of vertical lines
SWEEPS = 4  # times that the order within columns is improved


@dataclass(eq=False)
class Node:
    """A table; or, where `table` is None, the lane for lines from the table `name`."""

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

    def line_y(self, column: str) -> float:
        """Return the y coordinate of lines to this column of the table, or of the lane."""
        if not self.table:
            return self.y + LANE / 2
        return self.y + HEADER + ROW * ([each.name for each in self.table.columns].index(column) + 0.5)


@dataclass
class Bus:
    """The lines from one node into the next column, joined by a vertical line at `x`.

    `start` is the y coordinate at the node; `ends` are the nodes reached, with y and the referencing column, None for a lane.
    """

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


def arrange_diagram(database: Database) -> Diagram:
    """Compute the position of every table and line."""
    columns = reduce_crossings(assign_columns(database.tables))
    height = max(map(measure_column, columns))
    for column in columns:
        top = MARGIN + TITLE + (height - measure_column(column)) / 2
        for node in column:
            node.y, top = top, top + node.height + GAP
    buses: list[Bus] = []
    x: float = MARGIN
    for column, following in zip(columns, [*columns[1:], []], strict=True):
        widest = max(measure_table(node.table) for node in column if node.table)
        for node in column:
            node.x, node.width = x, measure_table(node.table) if node.table else widest
        x += widest + LINE_END
        for bus in order_buses(list(make_buses(column, following))):
            bus.x, x = x, x + TRACK
            buses.append(bus)
        x += LINE_END
    return Diagram([node for column in columns for node in column], x - LINE_END + MARGIN, height + TITLE + 2 * MARGIN, buses)


def measure_table(table: Table) -> float:
    longest = max(len(column.name) + len(column.type) for column in table.columns) + 2
    return MARK + CHARACTER * max(longest, len(table.name) + 2) + 10


def measure_column(column: Iterable[Node]) -> float:
    """Return the height of nodes on top of each other."""
    return sum(node.height + GAP for node in column) - GAP


def assign_columns(tables: Iterable[Table]) -> list[list[Node]]:
    """Put each table one column to the right of the last that it references; tables without references where there is room for them."""
    tables = list(tables)
    depth: dict[str, int] = {}
    while len(depth) < len(tables):
        # In a cycle of references, the first table goes first.
        ready = [table for table in tables if table.name not in depth and all(name in depth for name in table.parents)]
        for table in ready or [table for table in tables if table.name not in depth][:1]:
            depth[table.name] = max((depth.get(name, -1) + 1 for name in table.parents), default=0)
    referenced = {name for table in tables for name in table.parents}
    unrelated = [table for table in tables if not table.parents and table.name not in referenced]
    columns: list[list[Node]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for table in tables:
        if table not in unrelated:
            columns[depth[table.name]].append(Node(table.name, table))
    for number, column in enumerate(columns):
        passing = [name for later in columns[number + 1 :] for node in later if node.table for name in node.parents]
        column.extend(Node(name) for name in dict.fromkeys(passing) if depth[name] < number)
    tallest = max(map(measure_column, filter(None, columns)), default=0)
    for table in unrelated:
        node, shortest = Node(table.name, table), min(columns, key=measure_column)
        if shortest and measure_column([*shortest, node]) > tallest:
            columns.append(shortest := [])
        shortest.append(node)
    return columns


def reduce_crossings(columns: list[list[Node]]) -> list[list[Node]]:
    """Sort each column by the mean position of the connected nodes in the column to the left, then to the right, and repeat."""
    for sweep in range(SWEEPS):
        if sweep % 2 == 0:
            for left, right in pairwise(columns):
                right.sort(
                    key=make_sort_key(right, {node: [at for at, other in enumerate(left) if other.name in node.parents] for node in right})
                )
        else:
            for right, left in pairwise(columns[::-1]):
                left.sort(
                    key=make_sort_key(left, {node: [at for at, other in enumerate(right) if node.name in other.parents] for node in left})
                )
    return columns


def make_sort_key(nodes: list[Node], connected: dict[Node, list[int]]) -> Callable[[Node], tuple[float, int]]:
    """Return a sort key: the mean of the positions a node is connected to, or its own position where there are none."""
    current = {node: number for number, node in enumerate(nodes)}
    mean = {node: sum(positions) / len(positions) if positions else current[node] for node, positions in connected.items()}
    return lambda node: (mean[node], current[node])


def make_buses(column: list[Node], following: list[Node]) -> Iterator[Bus]:
    for node in column:
        ends = [end for other in following for end in find_ends(node.name, other)]
        if ends:
            start = node.line_y(node.table.key) if node.table else node.line_y("")
            yield Bus(node, start, ends)


def find_ends(name: str, node: Node) -> Iterator[tuple[Node, float, Column | None]]:
    if not node.table:
        if node.name == name:
            yield node, node.line_y(""), None
        return
    for column in node.table.columns:
        if column.references and column.references[0] == name:
            yield node, node.line_y(column.name), column


def order_buses(buses: list[Bus]) -> list[Bus]:
    """Order buses from left to right with few crossings: upward ones from the highest start, then downward ones from the lowest."""
    up = [bus for bus in buses if sum(level for _, level, _ in bus.ends) / len(bus.ends) < bus.start]
    down = [bus for bus in buses if bus not in up]
    return sorted(up, key=lambda bus: bus.start) + sorted(down, key=lambda bus: -bus.start)
