"""A raw batch while it is validated: typed columns, and the first rule that each row breaks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from apps.etl.counts import Counts
from apps.etl.declarations import Column, Kind, Source
from apps.etl.money import MAX_KOPIYKAS, uah
from apps.etl.slices import whole_number
from apps.etl.transform.parse import Mask, parse
from apps.etl.transform.rules import render_reason

UNREADABLE = {
    Kind.INTEGER: "not_whole",
    Kind.MONEY: "bad_money",
    Kind.INSTANT: "bad_date",
    Kind.DATE: "bad_date",
    Kind.FLAG: "bad_flag",
    Kind.TEXT: "bad_text",
}
DATE_FORMATS = {Kind.INSTANT: "YYYY-MM-DD hh:mm:ss", Kind.DATE: "YYYY-MM-DD"}
Parameters = dict[str, str]


@dataclass(frozen=True)
class RejectedRow:
    """A source row that breaks a rule. `params` fill the reason of the rule, `raw` is the row as its source spells it.

    `slice_id`: the id by which its table is sliced, NO_ID where it names none, None of a table that is read whole. `amount`: UAH that are
    missing in the warehouse because of it, None where that is unknown.
    """

    table: str
    row_id: str
    rule: str
    params: Parameters
    raw: dict[str, str | None]
    slice_id: int | None = None
    amount: Decimal | None = None

    @property
    def reason(self) -> str:
        """Why the row was rejected, in English."""
        return render_reason(self.rule, self.params)


@dataclass(frozen=True)
class WarnedRows:
    """Rows that a check of the transform warns about and that break no rule, with what they are worth where they are money."""

    table: str
    ids: list[str]
    amount: Decimal | None = None


@dataclass
class Outcome:
    """The result of a transform: the clean batch of a warehouse table, the rejects, the counts of every table read, and warnings.

    `fingerprints`: those of the orders that were read, for etl_order; only of a fact.
    """

    table: str
    clean: pa.Table
    counts: dict[str, Counts]
    rejects: list[RejectedRow] = field(default_factory=list)
    warnings: dict[str, WarnedRows] = field(default_factory=dict)  # by the code of the check
    fingerprints: pa.Table | None = None


def no_amount(at: int) -> None:
    """The amount of rows that are no money."""


class Rows:
    """The rows of a raw batch under validation.

    `frame` holds the typed columns (Arrow-backed; money in whole kopiykas, instants in naive UTC), one row per raw row.
    """

    def __init__(self, source: Source, raw: pa.Table):
        self.source = source
        self.raw = raw
        self.rules: list[tuple[str, Parameters]] = []
        self.broken: Any = np.zeros(raw.num_rows, dtype=np.int8)  # 0: none; n: the n-th of `rules`
        columns: dict[str, pa.Array] = {}
        for column in source.columns:
            columns[column.name], bad = parse(raw[column.name], column)
            self.reject(bad, UNREADABLE[column.kind], **unreadable_parameters(column))
        self.frame = pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)

    def reject(self, where: Mask, rule: str, **params: str) -> None:
        """Reject the rows at `where` that broke no rule before. `params` are those of the rule's reason, see rules.py."""
        fresh = where & (self.broken == 0)
        if fresh.any():
            self.rules.append((rule, params))
            self.broken[fresh] = len(self.rules)

    def reject_missing(self, column: str, rule: str = "missing_value") -> None:
        self.reject(self.frame[column].isna().to_numpy(), rule, column=column)

    def reject_amounts_below(self, column: str, least: int) -> None:
        """Reject amounts of less than `least` kopiykas."""
        where = self.numbers(column) < least
        self.reject(where, "bad_money", column=column, least=str(uah(least)), greatest=str(uah(MAX_KOPIYKAS)))

    def reject_unlisted(self, column: str, allowed: tuple[str, ...], rule: str) -> None:
        where = ~self.frame[column].isin(allowed).to_numpy(dtype=bool)
        self.reject(where, rule, column=column, allowed=", ".join(allowed))

    def reject_duplicates(self, column: str) -> None:
        """Reject all but the last of the rows that share a natural key."""
        again = self.frame[column].where(self.frame[column].notna() & (self.broken == 0))
        where = again.duplicated(keep="last").to_numpy() & again.notna().to_numpy()
        self.reject(where, "duplicate", column=column)

    @property
    def accepted(self) -> Mask:
        return np.asarray(self.broken == 0)

    def clean(self) -> pd.DataFrame:
        accepted: pd.DataFrame = self.frame[self.accepted].reset_index(drop=True)
        return accepted

    def numbers(self, column: str) -> Any:
        """Return a column of integers as numpy int64, 0 where empty."""
        return numbers(self.frame[column])

    def counts(self, filtered: int = 0) -> Counts:
        rejected = int((~self.accepted).sum())
        return Counts(len(self.frame), len(self.frame) - rejected - filtered, filtered, rejected)

    def rejects(self, amount: Callable[[int], int | None] = no_amount) -> list[RejectedRow]:
        """Return the rejected rows. `amount` returns the kopiykas that the row at a position is worth."""
        found = np.flatnonzero(~self.accepted)
        raws = self.raw.take(pa.array(found)).to_pylist()
        return [self.rejected_row(raw, self.rules[self.broken[at] - 1], amount(int(at))) for at, raw in zip(found, raws, strict=True)]

    def rejected_row(self, raw: dict[str, Any], rule: tuple[str, Parameters], kopiykas: int | None) -> RejectedRow:
        shown = {name: spell(value, self.source.kind(name)) for name, value in raw.items()}
        slice_id = whole_number(shown[self.source.sliced_by]) if self.source.sliced_by else None
        amount = uah(kopiykas) if kopiykas is not None and abs(kopiykas) <= MAX_KOPIYKAS else None
        return RejectedRow(self.source.table, (shown["id"] or "")[:40], *rule, shown, slice_id, amount)


def unreadable_parameters(column: Column) -> Parameters:
    """What the reason says of a value that `column` cannot hold."""
    params = {"column": column.name}
    if column.kind is Kind.MONEY:
        params |= {"least": str(uah(-MAX_KOPIYKAS)), "greatest": str(uah(MAX_KOPIYKAS))}
    elif column.kind is Kind.TEXT:
        params["length"] = str(column.length)
    elif column.kind in DATE_FORMATS:
        params["format"] = DATE_FORMATS[column.kind]
    return params


def numbers(values: "pd.Series[Any]") -> Any:
    return values.fillna(0).to_numpy(dtype=np.int64)


def spell(value: bytes | int | None, kind: Kind) -> str | None:
    """Spell a raw value for a person; bytes that are not UTF-8 as escapes."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return str(uah(value)) if kind is Kind.MONEY else str(value)


def to_batch(frame: pd.DataFrame, source: Source) -> pa.Table:
    """Turn clean rows into a batch, with money columns of `source` as DECIMAL(24,2) UAH and its instants in UTC."""
    batch = pa.Table.from_pandas(frame)
    for column in source.columns:
        at = batch.schema.get_field_index(column.name)
        if column.kind is Kind.MONEY:
            batch = batch.set_column(at, column.name, decimals(numbers(frame[column.name]), frame[column.name].isna().to_numpy()))
        elif column.kind is Kind.INSTANT:
            batch = batch.set_column(at, column.name, batch[column.name].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")))
    return batch


def decimals(kopiykas: Any, empty: Mask | None = None) -> pa.Array:
    """Turn whole kopiykas into DECIMAL(24,2) UAH exactly: the integers are the unscaled values."""
    units = pa.array(kopiykas, pa.int64(), mask=empty).cast(pa.decimal128(24, 0))
    return pa.Array.from_buffers(pa.decimal128(24, 2), len(units), units.buffers(), units.null_count)
