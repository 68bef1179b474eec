"""Row counts of a table: Counts of the rows read, Written of the rows loaded."""

from dataclasses import dataclass


@dataclass
class Counts:
    """The rows of one table: read = loaded + filtered + rejected."""

    read: int = 0
    loaded: int = 0
    filtered: int = 0
    rejected: int = 0


@dataclass
class Written:
    """The effect of a load on one table: staged = inserted + updated + unchanged. `derived` rows were written without being read."""

    staged: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    derived: int = 0

    @property
    def unchanged(self) -> int:
        return self.staged - self.inserted - self.updated

    def by_name(self) -> dict[str, int]:
        """Return the counts that the ledger and etl_load record."""
        return {name: getattr(self, name) for name in ("inserted", "updated", "unchanged", "deleted", "derived")}
