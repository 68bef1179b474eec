"""Performance targets of a load, and the comparison of a measurement with them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    figure: str
    unit: str
    at_most: float
    stretch: float
    at_least: bool = False  # `at_most` is a lower bound then: more is better

    def is_met(self, value: float) -> bool:
        return value >= self.at_most if self.at_least else value <= self.at_most

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        return "met" if self.is_met(value) else "missed"

    def describe_stretch(self, value: float | None) -> str:
        """Return the stretch goal, and whether it is reached or how much is missing."""
        if value is None:
            return f"{self.stretch:g}"
        remaining = (self.stretch - value) if self.at_least else (value - self.stretch)
        return f"{self.stretch:g} reached" if remaining <= 0 else f"{self.stretch:g}, {remaining:.2f} to go"


FLOORS = "x floor"
TARGETS = (
    Target("first full load", FLOORS, 2.0, 1.5),
    Target("full, reread", FLOORS, 2.2, 1.2),
    Target("full, nothing changed", FLOORS, 0.6, 0.4),
    Target("full, 1 % changed", FLOORS, 0.9, 0.6),
    Target("full, 1 % changed among the newest", FLOORS, 0.7, 0.5),
    Target("incremental, 1 % changed", FLOORS, 0.35, 0.2),
    Target("incremental, nothing changed", "s", 1.5, 0.6),
    Target("reconcile", "s", 15, 10),
    Target("reconcile, one kopiyka moved", "s", 20, 15),
    Target("peak memory", "MB", 350, 270),
    Target("pandas, in our first loads", "x ours", 10, 17, at_least=True),
    Target("memory of pandas", "x ours", 10, 17, at_least=True),
    Target("dlt defaults, in our first loads", "x ours", 2.5, 4, at_least=True),
    Target("SQLite, demo shop", "s", 3, 1),
)
SCALE_TARGETS = (
    Target("4 against 1 million lines, time", "x", 4.6, 4),
    Target("4 against 1 million lines, memory", "x", 1.15, 1.07),
    Target("peak memory at 4 million lines", "MB", 350, 270),
)
