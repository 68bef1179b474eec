"""What became of rows: Counts of what was read, Written of what was loaded."""

from dataclasses import dataclass


@dataclass
class Counts:
    """read = loaded + filtered + rejected, of one table."""

    read: int = 0
    loaded: int = 0
    filtered: int = 0
    rejected: int = 0


@dataclass
class Written:
    """What a load did to one table: staged = inserted + updated + unchanged. `derived`: written without being read."""

    staged: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    derived: int = 0

    @property
    def unchanged(self) -> int:
        return self.staged - self.inserted - self.updated

    def by_name(self) -> dict[str, int]:
        """As the ledger and etl_load record it."""
        return {name: getattr(self, name) for name in ("inserted", "updated", "unchanged", "deleted", "derived")}
