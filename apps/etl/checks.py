"""What must hold of the star before it is published. Each check is a question with a number for an answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from apps.etl.counts import Counts, Written
from apps.etl.tables import DIM_DATE, FACT_SALES, TARGETS
from apps.etl.transform.sales import METHODS, SALES
from techmarket.messages import Message, message

FACT_KEYS = {reference.key: reference.dimension for reference in FACT_SALES.references} | {"category_key": "dim_category"}
NONE = message("rows.none")
# A share of fewer rows than this says nothing.
ENOUGH = 100


@dataclass(frozen=True)
class Result:
    name: Message | str
    table: str
    passed: bool
    expected: str
    observed: str
    blocking: bool = True


class Check(Protocol):
    def run(self, cursor: Any) -> list[Result]: ...


@dataclass(frozen=True)
class NoRows:
    """A query that counts the rows that break a rule must count none."""

    name: str
    table: str
    query: str

    def run(self, cursor: Any) -> list[Result]:
        cursor.execute(self.query)
        return [none_of(self.name, self.table, int(cursor.fetchone()[0]))]


@dataclass(frozen=True)
class OneScan:
    """Conditions that no row may meet, and sums that are known, by name: one scan answers for all of them."""

    table: str
    rows: str
    rules: Mapping[Message, str]
    sums: Mapping[Message, tuple[Decimal, str]]  # expected, SQL

    def run(self, cursor: Any) -> list[Result]:
        asked = [f"COUNT(*) FILTER (WHERE {condition})" for condition in self.rules.values()] + [query for _, query in self.sums.values()]
        cursor.execute(f"SELECT {', '.join(asked)} FROM {self.table} WHERE {self.rows}")
        row = cursor.fetchone()
        broken = [none_of(name, self.table, int(count)) for name, count in zip(self.rules, row, strict=False)]
        observed = zip(self.sums.items(), row[len(self.rules) :], strict=True)
        return broken + [equal(name, self.table, expected, Decimal(str(said))) for (name, (expected, _)), said in observed]


@dataclass(frozen=True)
class Relationship:
    """Each key of a column is a row of the dimension. PostgreSQL sees to that and is asked whether it does; SQLite is asked for rows."""

    table: str
    column: str
    dimension: str
    rows: str

    def run(self, cursor: Any) -> list[Result]:
        name = message("check.relationship", column=self.column)
        if cursor.db.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(VALIDATED, [self.table, self.dimension, self.column])
            valid = cursor.fetchone() is not None
            return [
                Result(name, self.table, valid, message("constraint.valid"), message("constraint.valid" if valid else "constraint.invalid"))
            ]
        orphans = (
            f"SELECT COUNT(*) FROM (SELECT DISTINCT {self.column} FROM {self.table} WHERE {self.rows}) AS k "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.dimension} AS d WHERE d.{self.column} = k.{self.column})"
        )
        return NoRows(name, self.table, orphans).run(cursor)


VALIDATED = """
SELECT 1 FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.convalidated AND c.conrelid = %s::regclass AND c.confrelid = %s::regclass AND a.attname = %s
"""


def rows(count: int) -> str:
    return message("rows.none") if not count else message("rows.one") if count == 1 else message("rows.many", count=count)


def none_of(name: str, table: str, count: int) -> Result:
    return Result(name, table, count == 0, NONE, rows(count))


def equal(name: str, table: str, expected: Decimal, observed: Decimal) -> Result:
    return Result(name, table, observed == expected, str(expected), str(observed))


@dataclass(frozen=True)
class Share:
    """So many rows of a table, and no larger share of it, may meet an end like this."""

    name: str
    table: str
    count: int
    of: int
    limit: int  # percent

    def run(self, cursor: Any) -> list[Result]:
        passed = self.of < ENOUGH or self.count * 100 <= self.limit * self.of
        return [Result(self.name, self.table, passed, message("share.at_most", share=f"{self.limit} %", count=self.of), str(self.count))]


@dataclass(frozen=True)
class Warned:
    """Rows that are loaded and still deserve a look. Known from the transform: nothing is asked of the warehouse."""

    name: str
    table: str
    rows: tuple[str, ...]

    def result(self) -> Result:
        some = ", ".join(self.rows[:5]) + (", ..." if len(self.rows) > 5 else "")
        observed = message("rows.ids", rows=rows(len(self.rows)), ids=some) if some else NONE
        return Result(self.name, self.table, not self.rows, NONE, observed, blocking=False)


def unique(table: str, column: str) -> NoRows:
    return NoRows(message("check.unique", column=column), table, f"SELECT COUNT({column}) - COUNT(DISTINCT {column}) FROM {table}")


def not_listed(column: str, values: Iterable[str]) -> str:
    return f"{column} NOT IN ({', '.join(repr(value) for value in values)})"


def dimension_checks(loaded: Iterable[str]) -> list[Check]:
    return [unique(table, TARGETS[table].natural) for table in loaded if table != DIM_DATE.table]


def relationships(due: str) -> list[Check]:
    """Of the fact's rows that are `due`."""
    return [Relationship(FACT_SALES.table, column, dimension, due) for column, dimension in FACT_KEYS.items()]


def fact_checks(vendor: str, due: str, lines: int, net: int, paid: int) -> OneScan:
    """Rules for the fact's rows `due`; and their number, net and paid money (kopiykas) must be what the transform accepted."""
    net_amount, margin = to_the_kopiyka(vendor, "gross_amount - discount_amount"), to_the_kopiyka(vendor, "net_amount - cost_amount")
    rules = {message("check.not_null", column=column): f"{column} IS NULL" for column in FACT_KEYS} | {
        message("check.accepted_values", column="order_status"): not_listed("order_status", SALES),
        message("check.accepted_values", column="payment_method"): not_listed("payment_method", (*METHODS, "mixed", "none")),
        message("check.net"): f"{to_the_kopiyka(vendor, 'net_amount')} <> {net_amount}",
        message("check.margin"): f"{to_the_kopiyka(vendor, 'margin_amount')} <> {margin}",
    }
    sums = {
        message("check.reconciliation_lines"): (Decimal(lines), "COUNT(*)"),
        message("check.reconciliation_net"): (uah(net), money(vendor, "net_amount")),
        message("check.reconciliation_paid"): (uah(paid), money(vendor, "paid_amount")),
    }
    return OneScan(FACT_SALES.table, due, rules, sums)


def balance(counts: Mapping[str, Counts], written: Mapping[str, Written]) -> list[Result]:
    """read = loaded + filtered + rejected of every table; and for those of the warehouse, loaded = inserted + updated + unchanged."""
    results = []
    for table, count in counts.items():
        sums = [count.loaded + count.filtered + count.rejected]
        if table in written:
            sums.append(written[table].staged + count.filtered + count.rejected)
        expected, observed = message("rows.read", count=count.read), message("rows.accounted_for", count=sums[-1])
        results.append(Result(message("check.balance"), table, all(each == count.read for each in sums), expected, observed))
    return results


def uah(kopiykas: int) -> Decimal:
    return (Decimal(kopiykas) / 100).quantize(Decimal("0.01"))


def money(vendor: str, column: str) -> str:
    """SQL for the exact sum of a column in UAH. SQLite keeps amounts as floats, exact to the kopiyka each; their sum would not be."""
    if vendor == "sqlite":
        whole = f"COALESCE(SUM(CAST(ROUND({column} * 100) AS INTEGER)), 0)"
        return f"printf('%s%d.%02d', CASE WHEN {whole} < 0 THEN '-' ELSE '' END, ABS({whole}) / 100, ABS({whole}) % 100)"
    return f"COALESCE(SUM({column}), 0.00)"


def to_the_kopiyka(vendor: str, amount: str) -> str:
    """SQL for an amount that columns make. SQLite keeps them as floats; PostgreSQL is exact without ROUND, and faster."""
    return f"ROUND({amount}, 2)" if vendor == "sqlite" else amount
