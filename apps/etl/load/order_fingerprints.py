"""The fingerprints of the orders that a run has read into etl_order, and what it has proven into etl_segment."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa

from apps.etl.load.copying import analyze, copy, create_stage
from apps.etl.slices import SEGMENT, Bounds, within
from apps.etl.sums import segments_of
from apps.etl.tables import ORDER_FINGERPRINTS, ORDER_SOURCES

TABLE, STAGE = ORDER_FINGERPRINTS, f"stage_{ORDER_FINGERPRINTS}"
SUMS = list(ORDER_SOURCES)
COLUMNS = ["order_id", *SUMS, "look_again_at"]
DELETE_VANISHED = (
    f"DELETE FROM {TABLE} WHERE order_id IN (SELECT order_id FROM {TABLE} WHERE {{scope}} EXCEPT SELECT order_id FROM {STAGE})"
)
SAME = " AND ".join(f"t.{column} IS NOT DISTINCT FROM s.{column}" for column in COLUMNS)
UPSERT_CHANGED = f"""
INSERT INTO {TABLE} ({", ".join(COLUMNS)}) SELECT {", ".join(COLUMNS)} FROM {STAGE} AS s
WHERE NOT EXISTS (SELECT 1 FROM {TABLE} AS t WHERE t.order_id = s.order_id AND {SAME})
ON CONFLICT (order_id) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])}
"""
EMPTY_TABLES_KEY = f"""
SELECT quote_ident(conname) FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = conrelid
WHERE c.oid = '{TABLE}'::regclass AND contype = 'p' AND pg_has_role(relowner, 'USAGE') AND NOT EXISTS (SELECT 1 FROM {TABLE})
"""
INSERT_SEGMENTS = f"""
INSERT INTO etl_segment (segment, star) SELECT DISTINCT order_id / {SEGMENT}, 0 FROM {{table}} WHERE TRUE ON CONFLICT (segment) DO NOTHING
"""


def load_fingerprints(cursor: Any, batches: Iterable[pa.Table], scope: str) -> None:
    """Replace the fingerprints of the orders in `scope`, SQL, by those in the batches. Unchanged ones are not written."""
    if cursor.db.vendor == "postgresql" and (key := find_droppable_key(cursor)):
        return fill_empty(cursor, batches, key)
    create_stage(cursor, STAGE, TABLE, COLUMNS)
    for batch in batches:
        copy(cursor, STAGE, batch)
    analyze(cursor, STAGE)
    cursor.execute(DELETE_VANISHED.format(scope=scope))
    cursor.execute(UPSERT_CHANGED)
    cursor.execute(INSERT_SEGMENTS.format(table=STAGE))
    return None


def find_droppable_key(cursor: Any) -> str | None:
    """Return the name of the table's primary key, if the table is empty and the user owns it."""
    cursor.execute(EMPTY_TABLES_KEY)
    row = cursor.fetchone()
    return str(row[0]) if row else None


def fill_empty(cursor: Any, batches: Iterable[pa.Table], key: str) -> None:
    """Index the rows when all are there, in half the time that they take one by one."""
    cursor.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT {key}")
    for batch in batches:
        copy(cursor, TABLE, batch)
    cursor.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (order_id)")
    analyze(cursor, TABLE)
    cursor.execute(INSERT_SEGMENTS.format(table=TABLE))


def record_proof(cursor: Any, proven: Iterable[Bounds], as_of: datetime) -> None:
    """Record that the orders within these ranges, which end where a segment does, are as the sources held them at `as_of`."""
    for low, high in proven:
        first, after = (None if edge is None else int(segments_of(edge)) for edge in (low, high))
        where = " AND ".join(["TRUE", *within("segment", (first, after))])
        cursor.execute(f"UPDATE etl_segment SET proven_at = %s WHERE {where}", [cursor.db.ops.adapt_datetimefield_value(as_of)])
