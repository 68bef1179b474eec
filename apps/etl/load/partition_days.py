"""The days that a partition of a fact holds, as CHECK constraints: a query for other days leaves the partition out.

Partitions are ranges of order ids, and these ascend with the days: so a query by day needs few of them.
"""

from typing import Any

from apps.etl.declarations import Fact
from apps.etl.load.session import lock_from_readers
from apps.etl.slices import EVERYTHING, Bounds, within
from apps.etl.tables import DIM_DATE
from apps.etl.warehouse import WAREHOUSE
from techmarket.diagnosis import place
from techmarket.errors import AccessDenied
from techmarket.messages import message

# Of every partition with such constraints: its name, the conditions on orders that its rows meet, and name and condition of one on days.
CHECKS = """
SELECT p.relid::regclass::text, conname, pg_get_expr(conbin, conrelid), a.attname FROM pg_partition_tree('{table}'::regclass) AS p
JOIN pg_constraint AS c ON conrelid = p.relid JOIN pg_attribute AS a ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'c' AND cardinality(conkey) = 1 AND isleaf AND a.attname IN ('{day}', '{order}') ORDER BY 1, 2
"""
OWNED_BY_ANOTHER = """
SELECT oid::regclass::text, quote_ident(pg_get_userbyid(relowner)), current_user FROM pg_class
WHERE oid = ANY(%s::regclass[]) AND NOT pg_has_role(relowner, 'USAGE') LIMIT 1
"""


def day_column(fact: Fact) -> str:
    return next(reference.key for reference in fact.references if reference.dimension == DIM_DATE.table)


def conditions(fact: Fact, bounds: Bounds, days: list[int]) -> list[str]:
    """Return the conditions of a partition whose rows have these days; none where it is the only one.

    New orders come to the last partition, and their days with them.
    """
    if bounds == EVERYTHING:
        return []
    latest = [f"{day_column(fact)} <= {max(days)}"] if days and bounds[1] is not None else []
    earliest = [f"{day_column(fact)} >= {min(days)}"] if days else []
    return [*earliest, *latest, *within(fact.sliced_by, bounds)]


def find_violated(cursor: Any, fact: Fact, changed: str) -> list[tuple[str, str]]:
    """Return the partitions and the names of their constraints on days that rows of the table `changed` will not meet."""
    if cursor.db.vendor != "postgresql":
        return []
    cursor.execute(CHECKS.format(table=fact.table, day=day_column(fact), order=fact.sliced_by))
    rows = cursor.fetchall()
    of_orders = {relation: [each[2] for each in rows if each[0] == relation and each[3] == fact.sliced_by] for relation, *_ in rows}
    of_days = [(relation, name, condition) for relation, name, condition, column in rows if column == day_column(fact)]
    if not of_days:
        return []
    violations = [" AND ".join([*of_orders[relation], f"NOT {condition}"]) for relation, _, condition in of_days]
    cursor.execute(f"SELECT {', '.join(f'bool_or({each})' for each in violations)} FROM {changed} WHERE {fact.key} IS NOT NULL")
    return [(relation, name) for (relation, name, _), violated in zip(of_days, cursor.fetchone(), strict=True) if violated]


def drop_constraints(cursor: Any, violated: list[tuple[str, str]]) -> None:
    """An order that moved to another day: the partition is read by every query from now on, until it is built anew.

    Raises AccessDenied where another role owns the partition, OperationalError where a reader does not end.
    """
    if not violated:
        return
    relations = sorted({relation for relation, _ in violated})
    statements = [f'ALTER TABLE {relation} DROP CONSTRAINT "{name}"' for relation, name in violated]
    cursor.execute(OWNED_BY_ANOTHER, [relations])
    if found := cursor.fetchone():
        names = dict(zip(("table", "owner", "role"), found, strict=True))
        raise AccessDenied(message("database.day_checks", place=place(WAREHOUSE), statements="; ".join(statements), **names))
    lock_from_readers(cursor, relations)
    for statement in statements:
        cursor.execute(statement)
