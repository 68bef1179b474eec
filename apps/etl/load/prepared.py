"""What a run finds about rows of a fact while it prepares them: all that their publication must know without reading them again."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Self

from apps.etl.load.copying import Block
from apps.etl.load.dimensions import Inferred
from apps.etl.slices import Bounds


@dataclass
class PreparedSlice:
    """Rows ready for COPY, their number, the sums that the transform stated, in kopiykas by money column, and what has to be inferred."""

    rows: int = 0
    kopiykas: dict[str, int] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    inferred: Inferred = field(default_factory=Inferred)


# With the slices' bounds. Whoever takes them closes the generator: a thread of its own makes them, also after an error.
Slices = Generator[tuple[Bounds, PreparedSlice]]


@dataclass
class Findings:
    """About the rows of one range of orders, or of several.

    `numbers`, `segments` and `months` are known of ranges that become partitions: what the check of the fact measured; the sums of the
    rows' hashes by segment; net kopiykas, lines and orders by month, YYYYMM. `differing`: the rows of the table of any other range.
    """

    rows: int = 0
    kopiykas: dict[str, int] = field(default_factory=dict)
    inferred: Inferred = field(default_factory=Inferred)
    numbers: list[Decimal] = field(default_factory=list)
    segments: dict[int, int] = field(default_factory=dict)
    months: dict[int, list[int]] = field(default_factory=dict)
    differing: int = 0

    def count(self, prepared: PreparedSlice) -> None:
        self.rows += prepared.rows
        self.inferred.add(prepared.inferred)
        add_each(self.kopiykas, prepared.kopiykas)

    def add(self, other: "Findings") -> None:
        self.rows += other.rows
        self.inferred.add(other.inferred)
        add_each(self.kopiykas, other.kopiykas)
        add_each(self.segments, other.segments)
        self.differing += other.differing
        self.numbers = add_lists(self.numbers, other.numbers)
        for month, sums in other.months.items():
            self.months[month] = add_lists(self.months.get(month, []), sums)

    def to_json(self) -> dict[str, Any]:
        members = {table: sorted(naturals) for table, naturals in self.inferred.members.items() if naturals}
        inferred = {"members": members, "years": sorted(self.inferred.years)}
        return asdict(self) | {"inferred": inferred, "numbers": [str(number) for number in self.numbers]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        members = {table: set(naturals) for table, naturals in stored["inferred"]["members"].items()}
        return cls(
            stored["rows"],
            stored["kopiykas"],
            Inferred(members, set(stored["inferred"]["years"])),
            [Decimal(number) for number in stored["numbers"]],
            {int(segment): total for segment, total in stored["segments"].items()},
            {int(month): sums for month, sums in stored["months"].items()},
            stored["differing"],
        )


def add_each[K](totals: dict[K, int], amounts: Mapping[K, int]) -> None:
    for name, amount in amounts.items():
        totals[name] = totals.get(name, 0) + amount


def add_lists[N: (int, Decimal)](one: list[N], other: list[N]) -> list[N]:
    return [a + b for a, b in zip(one, other, strict=True)] if one and other else one or other


def add_up(parts: Iterable[Findings]) -> Findings:
    total = Findings()
    for part in parts:
        total.add(part)
    return total
