"""The changes that an incremental run reads."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class ChangeWindow:
    """Changes from `start`, included, to `end`, excluded (None: until now). Instants are aware."""

    start: datetime
    end: datetime | None = None

    def condition(self) -> str:
        """Return SQL with a ? for each of `parameters`."""
        return "updated_at >= ?" + (" AND updated_at < ?" if self.end else "")

    def parameters(self) -> list[str]:
        return [str(instant.astimezone(UTC).replace(tzinfo=None)) for instant in (self.start, self.end) if instant]
