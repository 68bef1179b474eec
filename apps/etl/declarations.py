"""The terms in which tables.py declares sources, dimensions and facts."""

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a source column may hold, which decides how it is transferred and parsed."""

    INTEGER = "integer"
    FLAG = "flag"
    MONEY = "money"  # DECIMAL(12,2) UAH
    INSTANT = "instant"  # UTC
    DATE = "date"
    TEXT = "text"


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    length: int = 0  # TEXT: the most characters that the warehouse holds


@dataclass(frozen=True)
class Source:
    """A table of a source and the columns that are read.

    `where` restricts it to the rows that concern one target; `sliced_by` is the column by whose ranges it may be read in slices.
    """

    alias: str
    table: str
    columns: tuple[Column, ...]
    where: str = ""
    sliced_by: str = ""

    def kind(self, column: str) -> Kind:
        return next(each.kind for each in self.columns if each.name == column)


@dataclass(frozen=True)
class Reference:
    """The key column `key` is looked up in `dimension` by the clean batch's column `natural`; where that is empty the key is `empty`."""

    key: str
    natural: str
    dimension: str
    empty: int = -1


@dataclass(frozen=True)
class Target:
    """A table of the warehouse. Every row comes from one row of the first of `sources`; the others only add columns."""

    table: str
    key: str
    natural: str
    attributes: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    references: tuple[Reference, ...] = field(default=())

    @property
    def source(self) -> Source:
        return self.sources[0]

    @property
    def is_sliced(self) -> bool:
        """Whether it is read and transformed in slices, so that no task holds it whole."""
        return bool(self.sources) and all(source.sliced_by for source in self.sources)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a load compares and writes, besides key and natural key."""
        return self.attributes + tuple(reference.key for reference in self.references)


@dataclass(frozen=True)
class AcceptedValues:
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Equality:
    """Two SQL amounts of a row that must be equal to the kopiyka. `check` names it in the ledger."""

    check: str
    left: str
    right: str


@dataclass(frozen=True)
class Reconciliation:
    """A money column whose sum must be the one that the transform put into the batch's metadata under the column's name, in kopiykas."""

    check: str
    column: str


@dataclass(frozen=True, kw_only=True)
class Fact(Target):
    """A fact table. Its key is the id of the first source's row.

    `sliced_by` is the column of order ids, by whose ranges it is extracted and loaded; every source names its own column with order ids as
    its `sliced_by`. An order is touched if a row of any source changed; all rows of it are replaced.

    `has_product_columns`: the load adds PRODUCT_COLUMNS, for which the fact needs `product_key`, `quantity` and `net_amount`.
    `holds_revenue`: the load says how `net_amount` and `paid_amount` change by month and cause; the fact needs `date_key`, too.
    """

    sliced_by: str
    has_product_columns: bool = False
    holds_revenue: bool = False
    accepted_values: tuple[AcceptedValues, ...] = ()
    equalities: tuple[Equality, ...] = ()
    reconciliations: tuple[Reconciliation, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return super().columns + (PRODUCT_COLUMNS if self.has_product_columns else ())

    @property
    def dimension_keys(self) -> dict[str, str]:
        """The dimension of every key column."""
        keys = {reference.key: reference.dimension for reference in self.references}
        return keys | ({"category_key": "dim_category"} if self.has_product_columns else {})


# category of the product; its cost, taken at the line's first load and kept; that cost x quantity; net - cost.
PRODUCT_COLUMNS = ("category_key", "unit_cost", "cost_amount", "margin_amount")


def integer(name: str) -> Column:
    return Column(name, Kind.INTEGER)


def flag(name: str) -> Column:
    return Column(name, Kind.FLAG)


def money(name: str) -> Column:
    return Column(name, Kind.MONEY)


def instant(name: str) -> Column:
    return Column(name, Kind.INSTANT)


def date(name: str) -> Column:
    return Column(name, Kind.DATE)


def text(name: str, length: int) -> Column:
    return Column(name, Kind.TEXT, length)
