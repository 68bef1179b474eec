"""Rows of few ids are looked up in a partitioned table. PostgreSQL alone."""

from typing import Any

import pytest
from django.db import connections, transaction

from apps.etl.load.copying import analyze
from apps.etl.load.look_ups import FEW, few_looked_up

pytestmark = pytest.mark.django_db(databases=["dwh"])
ROWS = 40_000
JOIN = "EXPLAIN SELECT t.id FROM looked_up AS t JOIN staged AS s ON t.id = s.id AND t.part = s.part"


@pytest.fixture
def cursor() -> Any:
    """Yield a cursor in a transaction with `looked_up`: 20 partitions, each with a key."""
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("SQLite looks up by itself, and has no partitions")
    with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE looked_up (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part)")
        for part in range(20):
            cursor.execute(f"CREATE TEMPORARY TABLE looked_up_{part} PARTITION OF looked_up FOR VALUES IN ({part})")
        cursor.execute(f"INSERT INTO looked_up SELECT id, id %% 20 FROM generate_series(1, {ROWS}) AS id", [])
        analyze(cursor, "looked_up")
        yield cursor


def explain(cursor: Any, staged: int) -> list[str]:
    """Return the plan of a join with so many staged rows, and the plan of the same join afterwards."""
    cursor.execute("CREATE TEMPORARY TABLE staged ON COMMIT DROP AS SELECT * FROM looked_up LIMIT %s", [staged])
    analyze(cursor, "staged")
    plans = []
    with few_looked_up(cursor, "staged", "looked_up"):
        cursor.execute(JOIN)
        plans.append("\n".join(row[0] for row in cursor.fetchall()))
    cursor.execute(JOIN)
    return [*plans, "\n".join(row[0] for row in cursor.fetchall())]


def test_few_rows_are_looked_up_and_the_planner_is_free_again(cursor: Any) -> None:
    inside, afterwards = explain(cursor, ROWS // FEW)
    assert "Seq Scan on looked_up" not in inside and "Seq Scan on looked_up" in afterwards, (inside, afterwards)


def test_many_rows_are_found_by_one_look_at_the_table(cursor: Any) -> None:
    inside, afterwards = explain(cursor, ROWS // FEW + 1)
    assert inside == afterwards and "Seq Scan on looked_up" in inside, inside
