"""Checks of the warehouse before a load is published. Each counts or sums rows and compares the result with what must be true."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from apps.etl.counts import Counts, Written
from apps.etl.declarations import Fact
from apps.etl.money import sql_round, sql_sum, uah
from apps.etl.tables import DIM_DATE, TARGETS
from techmarket.formats import format_uah
from techmarket.messages import Message, message

NO_ROWS = message("rows.none")
SHOWN_IDS = 5
SHOWN_CHECKS = 3  # failed checks named in an error


@dataclass(frozen=True)
class Result:
    name: Message | str
    table: str
    passed: bool
    expected: str
    observed: str
    blocking: bool = True


def describe_failure(result: Result) -> Message:
    return message("check.failed", table=result.table, name=result.name, expected=result.expected, observed=result.observed)


def name_failures(failed: Sequence[Result]) -> list[Message]:
    """Return what the first checks expected and observed, and how many more there are."""
    named: list[Message] = [describe_failure(result) for result in failed[:SHOWN_CHECKS]]
    if len(failed) > SHOWN_CHECKS:
        named.append(message("check.more", count=len(failed) - SHOWN_CHECKS))
    return named


class Check(Protocol):
    def run(self, cursor: Any) -> list[Result]: ...


@dataclass(frozen=True)
class NoRows:
    """`query` counts rows that break a rule, and must count none."""

    name: str
    table: str
    query: str

    def run(self, cursor: Any) -> list[Result]:
        cursor.execute(self.query)
        return [expect_none(self.name, self.table, int(cursor.fetchone()[0]))]


@dataclass(frozen=True)
class FactScan:
    """Conditions that no row of `scope` may meet, and sums that are known in advance, by name: all in one scan."""

    table: str
    scope: str
    violations: Mapping[Message, str]
    sums: Mapping[Message, tuple[Decimal, str]]  # expected, SQL

    def run(self, cursor: Any) -> list[Result]:
        return self.judge(self.measure(cursor, self.table))

    def measure(self, cursor: Any, table: str) -> list[Decimal]:
        """Count and sum the rows of `table`, which has the fact's columns. Numbers of several tables may be added up."""
        counts = [f"COUNT(*) FILTER (WHERE {condition})" for condition in self.violations.values()]
        sums = [query for _, query in self.sums.values()]
        cursor.execute(f"SELECT {', '.join(counts + sums)} FROM {table} WHERE {self.scope}")
        return [Decimal(str(number)) for number in cursor.fetchone()]

    def judge(self, numbers: Sequence[Decimal]) -> list[Result]:
        counts, sums = numbers[: len(self.violations)], numbers[len(self.violations) :]
        results = [expect_none(name, self.table, int(count)) for name, count in zip(self.violations, counts, strict=True)]
        expectations = zip(self.sums.items(), sums, strict=True)
        return results + [expect_equal(name, self.table, expected, observed) for (name, (expected, _)), observed in expectations]


@dataclass(frozen=True)
class Relationship:
    """Every key of a column exists in the dimension. On PostgreSQL a validated foreign key proves it; on SQLite the rows are searched."""

    table: str
    column: str
    dimension: str
    scope: str

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
            f"SELECT COUNT(*) FROM (SELECT DISTINCT {self.column} FROM {self.table} WHERE {self.scope}) AS k "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.dimension} AS d WHERE d.{self.column} = k.{self.column})"
        )
        return NoRows(name, self.table, orphans).run(cursor)


VALIDATED = """
SELECT 1 FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.convalidated AND c.conrelid = %s::regclass AND c.confrelid = %s::regclass AND a.attname = %s
"""


def count_rows(count: int) -> Message:
    if not count:
        return NO_ROWS
    return message("rows.one") if count == 1 else message("rows.many", count=count)


def expect_none(name: str, table: str, count: int) -> Result:
    return Result(name, table, count == 0, NO_ROWS, count_rows(count))


def expect_equal(name: str, table: str, expected: Decimal, observed: Decimal) -> Result:
    return Result(name, table, observed == expected, str(expected), str(observed))


def warn(name: str, table: str, ids: Sequence[str], amount: Decimal | None = None) -> Result:
    """Return the result for rows that the transform warns about and that stop nothing; with their UAH where they are money."""
    examples = ", ".join(ids[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")
    observed = message("rows.ids", rows=count_rows(len(ids)), ids=examples) if examples else NO_ROWS
    if amount is not None:
        observed = message("rows.uah", rows=observed, amount=format_uah(amount))
    return Result(name, table, not ids, NO_ROWS, observed, blocking=False)


def unique(table: str, column: str) -> NoRows:
    return NoRows(message("check.unique", column=column), table, f"SELECT COUNT({column}) - COUNT(DISTINCT {column}) FROM {table}")


def unique_key(fact: Fact, query: str) -> NoRows:
    """Check the fact's key, which is not unique by itself where the fact is partitioned. `query` counts keys that several rows have."""
    return NoRows(message("check.unique", column=fact.key), fact.table, query)


def dimension_checks(loaded: Iterable[str]) -> list[Check]:
    return [unique(table, TARGETS[table].natural) for table in loaded if table != DIM_DATE.table]


def relationship_checks(fact: Fact, scope: str) -> list[Check]:
    return [Relationship(fact.table, column, dimension, scope) for column, dimension in fact.dimension_keys.items()]


def fact_check(vendor: str, fact: Fact, scope: str, rows: int, kopiykas: Mapping[str, int]) -> FactScan:
    """Check the fact's rows of `scope`: the declared rules, and that number and sums are those that the transform accepted."""
    violations = {message("check.not_null", column=column): f"{column} IS NULL" for column in fact.dimension_keys}
    for accepted in fact.accepted_values:
        values = ", ".join(repr(value) for value in accepted.values)
        violations[message("check.accepted_values", column=accepted.column)] = f"{accepted.column} NOT IN ({values})"
    for equality in fact.equalities:
        violations[message(equality.check)] = f"{sql_round(vendor, equality.left)} <> {sql_round(vendor, equality.right)}"
    sums = {message("check.reconciliation_lines"): (Decimal(rows), "COUNT(*)")}
    for each in fact.reconciliations:
        sums[message(each.check)] = (uah(kopiykas[each.column]), sql_sum(vendor, each.column))
    return FactScan(fact.table, scope, violations, sums)


def balance(counts: Mapping[str, Counts], written: Mapping[str, Written]) -> list[Result]:
    """Check read = loaded + filtered + rejected of every table, and loaded = inserted + updated + unchanged of the warehouse's."""
    results = []
    for table, count in counts.items():
        sums = [count.loaded + count.filtered + count.rejected]
        if table in written:
            sums.append(written[table].staged + count.filtered + count.rejected)
        expected, observed = message("rows.read", count=count.read), message("rows.accounted_for", count=sums[-1])
        results.append(Result(message("check.balance"), table, all(each == count.read for each in sums), expected, observed))
    return results
