"""Performance targets of a load, and the comparison of a measurement with them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    figure: str
    unit: str
    at_most: float
    stretch: float | None
    at_least: bool = False  # `at_most` is a lower bound then: more is better

    def is_met(self, value: float) -> bool:
        return value >= self.at_most if self.at_least else value <= self.at_most

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        return "met" if self.is_met(value) else "missed"

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
    Target("first full load", FLOORS, 1.35, 1.2),
    Target("full, reread", FLOORS, 2.2, 1.2),
    Target("full, nothing changed", FLOORS, 0.6, 0.4),
    Target("full, 1 % changed", FLOORS, 0.9, 0.6),
    Target("full, 1 % changed among the newest", FLOORS, 0.7, 0.5),
    Target("incremental, 1 % changed", FLOORS, 0.18, 0.12),
    Target("incremental, nothing changed", "s", 0.8, 0.5),
    Target("reconcile", "s", 15, 6),
    Target("reconcile, one kopiyka moved", "s", 20, 8),
    Target("peak memory", "MB", 250, 200),
    Target("pandas, in our first loads", PEERS, 15, 20, at_least=True),
    Target("memory of pandas", PEERS, 10, 17, at_least=True),
    Target("dlt defaults, in our first loads", PEERS, 7, 10, at_least=True),
    Target("sling, in our first loads", PEERS, 1, None, at_least=True),
    Target("DuckDB, in our first loads", PEERS, 1.8, 2.2, at_least=True),
    Target("memory of DuckDB", PEERS, 4, None, at_least=True),
    Target("SQLite, demo shop", "s", 1.2, 0.8),
)
SCALE_TARGETS = (
    Target("4 against 1 million lines, time", "x", 4.6, 4),
    Target("4 against 1 million lines, memory", "x", 1.05, 1.02),
    Target("peak memory at 4 million lines", "MB", 250, 200),
)
WORKERS_TARGETS = (
    Target("two workers against one", WORKERS, 1.6, 1.8, at_least=True),
    Target("publishing transaction, first load", "s", 1, 0.3),
    Target("publishing transaction, 1 % changed", "s", 0.5, 0.2),
)
LOCK_TARGETS = (Target("longest wait of a reader", "s", 0.1, 0.03),)


def select_judged(targets: Sequence[Target], orders: int) -> list[Target]:
    """Return the targets that mean something in a shop of this size: starting a process takes as long as a tenth of the load."""
    return [target for target in targets if orders >= ORDERS or target.unit not in RATIOS]
