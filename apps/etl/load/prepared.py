"""A slice of a fact, ready to be written."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from apps.etl.counts import Written
from apps.etl.load.copying import Block
from apps.etl.load.revenue import Revenue
from apps.etl.slices import Bounds


@dataclass
class PreparedSlice:
    """Rows ready for COPY, the dimension rows that must be written before them, and the sums that the transform stated."""

    blocks: list[Block] = field(default_factory=list)
    inferred: dict[str, Any] = field(default_factory=dict)  # dimension -> natural keys
    years: set[int] = field(default_factory=set)
    kopiykas: dict[str, int] = field(default_factory=dict)  # money column -> sum

    @property
    def rows(self) -> int:
        return sum(block.size for block in self.blocks)


class FactWriter(Protocol):
    """Writes a fact slice by slice, then brings the fact table in line with them. `revenue`: what that changes, once it has finished."""

    @property
    def revenue(self) -> Revenue: ...

    def pack(self, rows: pa.Table) -> list[Block]: ...

    def add(self, prepared: PreparedSlice, bounds: Bounds) -> None: ...

    def finish(self) -> Written: ...
