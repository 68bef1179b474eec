"""A raw batch being cleaned: typed columns, the rules it is held to, and what broke them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from apps.etl.counts import Counts
from apps.etl.tables import Kind, Source
from apps.etl.transform.parse import Mask, parse

UNREADABLE = {
    Kind.INTEGER: ("not_whole", "{} is not a whole number"),
    Kind.MONEY: ("bad_money", "{} is not an amount within DECIMAL(12,2)"),
    Kind.INSTANT: ("bad_date", "{} is not a date and time"),
    Kind.DATE: ("bad_date", "{} is not a date"),
    Kind.FLAG: ("bad_flag", "{} is neither 0 nor 1"),
    Kind.TEXT: ("bad_text", "{} is not valid UTF-8, or longer than the warehouse's column"),
}


@dataclass(frozen=True)
class RejectedRow:
    table: str
    row_id: str
    rule: str
    reason: str
    raw: dict[str, str | None]


@dataclass
class Outcome:
    """What a transform gives: the clean batch of a warehouse table, the rejects, the counts of every table read, and warnings."""

    table: str
    clean: pa.Table
    counts: dict[str, Counts]
    rejects: list[RejectedRow] = field(default_factory=list)
    warnings: dict[str, list[str]] = field(default_factory=dict)  # check name -> ids of the rows


class Rows:
    """`frame` holds the typed columns (Arrow-backed; money in whole kopiykas, instants naive UTC), one row for each raw row."""

    def __init__(self, source: Source, raw: pa.Table):
        self.source = source
        self.raw = raw
        self.rules: list[tuple[str, str]] = []
        self.broken: Any = np.zeros(raw.num_rows, dtype=np.int8)  # 0: none; n: the n-th of `rules`
        columns: dict[str, pa.Array] = {}
        for column in source.columns:
            columns[column.name], bad = parse(raw[column.name], column)
            rule, reason = UNREADABLE[column.kind]
            self.reject(bad, rule, reason.format(column.name))
        self.frame = pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)

    def reject(self, where: Mask, rule: str, reason: str) -> None:
        """The first rule that a row breaks is the one it is rejected for."""
        fresh = where & (self.broken == 0)
        if fresh.any():
            self.rules.append((rule, reason))
            self.broken[fresh] = len(self.rules)

    def reject_missing(self, column: str, rule: str, reason: str) -> None:
        self.reject(self.frame[column].isna().to_numpy(), rule, reason)

    def reject_unlisted(self, column: str, allowed: tuple[str, ...], rule: str) -> None:
        where = ~self.frame[column].isin(allowed).to_numpy(dtype=bool)
        self.reject(where, rule, f"{column} is none of {', '.join(allowed)}")

    def reject_duplicates(self, column: str) -> None:
        """Of rows with one natural key the last stays."""
        again = self.frame[column].where(self.frame[column].notna() & (self.broken == 0))
        where = again.duplicated(keep="last").to_numpy() & again.notna().to_numpy()
        self.reject(where, "duplicate", f"another row has the same {column}")

    @property
    def accepted(self) -> Mask:
        return np.asarray(self.broken == 0)

    def clean(self) -> pd.DataFrame:
        return self.frame[self.accepted].reset_index(drop=True)

    def numbers(self, column: str) -> Any:
        """A column of integers as numpy int64, 0 where empty."""
        return numbers(self.frame[column])

    def counts(self, filtered: int = 0) -> Counts:
        rejected = int((~self.accepted).sum())
        return Counts(len(self.frame), len(self.frame) - rejected - filtered, filtered, rejected)

    def rejects(self) -> list[RejectedRow]:
        found = np.flatnonzero(~self.accepted)
        raws = self.raw.take(pa.array(found)).to_pylist()
        return [self.rejected_row(raw, self.rules[self.broken[at] - 1]) for at, raw in zip(found, raws, strict=True)]

    def rejected_row(self, raw: dict[str, Any], rule: tuple[str, str]) -> RejectedRow:
        shown = {name: readable(value, self.source.kind(name)) for name, value in raw.items()}
        return RejectedRow(self.source.table, (shown["id"] or "")[:40], *rule, shown)


def numbers(values: "pd.Series[Any]") -> Any:
    return values.fillna(0).to_numpy(dtype=np.int64)


def readable(value: bytes | int | None, kind: Kind) -> str | None:
    """A raw value as a person would write it; bytes that are no text as escapes."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    if kind is Kind.MONEY:
        sign, whole = "-" if value < 0 else "", abs(value)
        return f"{sign}{whole // 100}.{whole % 100:02}"
    return str(value)


def decimals(kopiykas: Any, empty: Mask | None = None) -> pa.Array:
    """Whole kopiykas as DECIMAL(24,2) UAH, exactly: the integers are the unscaled values."""
    units = pa.array(kopiykas, pa.int64(), mask=empty).cast(pa.decimal128(24, 0))
    return pa.Array.from_buffers(pa.decimal128(24, 2), len(units), units.buffers(), units.null_count)
