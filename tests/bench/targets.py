"""Performance targets of a load, and the comparison of a measurement with them.

docs/SCALING.md shows by profile why some targets are missed. Each of these has a bound, so that the benchmark still finds what gets slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    figure: str
    unit: str
    at_most: float
    stretch: float | None
    at_least: bool = False  # `at_most` is a lower limit then: more is better
    bound: float | None = None  # of a target that is missed: beyond it, something has become slower

    def is_within(self, limit: float, value: float) -> bool:
        return value >= limit if self.at_least else value <= limit

    def is_tolerated(self, value: float) -> bool:
        """Return True where the target is met, or missed by no more than is known."""
        return self.is_within(self.at_most, value) or (self.bound is not None and self.is_within(self.bound, value))

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        if self.is_within(self.at_most, value):
            return "met"
        return f"missed, within {self.bound:g}" if self.is_tolerated(value) else "missed"

    def describe(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.at_most:g} {self.unit}"

    def describe_stretch(self, value: float | None) -> str:
        """Return the stretch goal, and whether it is reached or how much is missing."""
        if self.stretch is None:
            return ""
        if value is None:
            return f"{self.stretch:g}"
        remaining = (self.stretch - value) if self.at_least else (value - self.stretch)
        return f"{self.stretch:g} reached" if remaining <= 0 else f"{self.stretch:g}, {remaining:.2f} to go"


ORDERS = 1_000_000  # of the shop for which the targets are set
FLOORS, PEERS, WORKERS = "x floor", "x ours", "x as fast"
RATIOS = (FLOORS, PEERS, WORKERS)
TARGETS = (
    Target("first full load", FLOORS, 1.35, 1.2, bound=3.2),
    Target("full, reread", FLOORS, 2.2, 1.2, bound=2.6),
    Target("full, nothing changed", FLOORS, 0.6, 0.4),
    Target("full, 1 % changed", FLOORS, 0.9, 0.6),
    Target("full, 1 % changed among the newest", FLOORS, 0.7, 0.5),
    Target("incremental, 1 % changed", FLOORS, 0.18, 0.12, bound=0.45),
    Target("incremental, nothing changed", "s", 0.8, 0.5, bound=2.2),
    Target("reconcile", "s", 15, 6, bound=30),
    Target("reconcile, one kopiyka moved", "s", 20, 8, bound=30),
    Target("peak memory", "MB", 250, 200),
    Target("pandas, in our first loads", PEERS, 15, 20, at_least=True, bound=10),
    Target("memory of pandas", PEERS, 10, 17, at_least=True),
    Target("dlt defaults, in our first loads", PEERS, 7, 10, at_least=True, bound=3),
    Target("sling, in our first loads", PEERS, 1, None, at_least=True),
    Target("DuckDB, in our first loads", PEERS, 1.8, 2.2, at_least=True, bound=0.8),
    Target("memory of DuckDB", PEERS, 4, None, at_least=True),
    Target("SQLite, demo shop", "s", 1.2, 0.8, bound=3),
)
SCALE_TARGETS = (
    Target("4 against 1 million lines, time", "x", 4.6, 4),
    Target("4 against 1 million lines, memory", "x", 1.05, 1.02),
    Target("peak memory at 4 million lines", "MB", 250, 200),
)
WORKERS_TARGETS = (
    Target("two workers against one", WORKERS, 1.6, 1.8, at_least=True, bound=1.05),
    Target("publishing transaction, first load", "s", 1, 0.3, bound=12),
    Target("publishing transaction, 1 % changed", "s", 0.5, 0.2, bound=2),
)
LOCK_TARGETS = (Target("longest wait of a reader", "s", 0.1, 0.03, bound=0.3),)
CLAIMS_TARGETS = (
    Target("planning and claiming a task", "ms", 1.5, 0.5, bound=8),  # 60 s for 40 000
    Target("a claim, the last against the first", "x", 1.5, None),
    Target("a finish, the last against the first", "x", 1.5, None),
)


def select_judged(targets: Sequence[Target], orders: int) -> list[Target]:
    """Return the targets that mean something in a shop of this size: starting a process takes as long as a tenth of the load."""
    return [target for target in targets if orders >= ORDERS or target.unit not in RATIOS]
